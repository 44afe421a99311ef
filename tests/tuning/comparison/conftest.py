import io
from contextlib import redirect_stderr, redirect_stdout

import pytest

from tests.tuning.comparison import fake_comparison
from tests.tuning.fake_training import FakeExecutor
from tests.tuning.tuning_helpers import Searches
from tuning import compare
from tuning.comparison.report import output

_ROWS = [("thank you", "joy"), ("go away", "anger"), ("how sad", "grief")]


class Comparisons(Searches):
    """Commands of `compare` in one folder, with one tracking server and one storage."""

    command_module, training_module = "tuning.compare", "tests.tuning.comparison.fake_comparison"

    def __init__(self, folder, root):
        super().__init__(folder, root)
        self.executor = FakeExecutor(fake_comparison.train)
        for role, count in {"train": 6, "dev": 6, "test": 6}.items():
            lines = [f"{text} {role} {number},{label}" for number in range(count) for text, label in _ROWS]
            (folder / f"{role}.csv").write_text("\n".join(["text,labels", *lines]) + "\n")

    def argv(self, settings):
        given = {"comparison": "c", "workers": 1, "seeds": 2, "dataset": str(self.folder), "epochs": 2}
        # The stand-in fails above a learning rate, and scores best at 1e-3.
        given |= {"threshold_folds": 3, "learning_rate": 1e-3, "resamples": 200, **settings}
        return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]

    def run(self, **given):
        """Exit status and output of a command in this process, whose trainings run in its threads."""
        real, written = compare.compare, io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(written), redirect_stderr(written):
            patch.chdir(self.folder)
            patch.setattr(output, "_draw", lambda *_: [])
            patch.setattr(output, "write_page", lambda *_: None)
            patch.setattr(compare, "compare", lambda *values: real(*values, self.executor))
            code = compare.main(self.argv(given))
        return code, " ".join(written.getvalue().split())


@pytest.fixture
def comparisons(tmp_path, root, tracking_uri):
    made = Comparisons(tmp_path, root)
    yield made
    made.close()
