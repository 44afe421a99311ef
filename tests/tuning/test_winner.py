"""What becomes of the winner of the finals. Nothing is trained."""

import json
from pathlib import Path
from typing import ClassVar

import pytest

from trainer.core import artifacts
from trainer.core.errors import TuningError
from tuning.execution.process import Share
from tuning.finals import winner
from tuning.finals.statistics import FinalRun
from tuning.finals.winner import Finish, complete


class Runs:
    def __init__(self, output):
        self.output, self.created, self.closed = output, [], []

    def create(self, name, tags):
        self.created.append((name, tags))
        return f"made{len(self.created)}"

    def close(self, folder, status, tags):
        self.closed.append((folder.name, status))


class FakeTraining:
    """Ends at once, with scores on test; a test may let it fail."""

    orders: list[object]
    status: int | None = 0
    outcome: dict[str, float]
    uses: ClassVar[dict[str, object]] = {}

    def __init__(self, order, share):
        type(self).orders.append(order)
        order.folder.mkdir(parents=True, exist_ok=True)
        (order.folder / artifacts.OUTCOME).write_text(json.dumps(self.outcome))
        (order.folder / artifacts.CONFIG).write_text(json.dumps({**order.changes, **self.uses}))
        self.done = []
        type(self).last = self

    def ask_to_stop(self):
        self.done.append("stop")

    def wait(self, seconds=None):
        self.done.append("wait" if seconds else "end")
        if self.done == ["wait"] and self.status is None:
            raise KeyboardInterrupt

    def clean_up(self):
        self.done.append("kill")

    def cause(self):
        return "it has failed"


FINISHED = [
    FinalRun(setting=1, seed=43, score=0.60, run_id="a"),
    FinalRun(setting=3, seed=43, score=0.68, run_id="b"),
    FinalRun(setting=1, seed=44, score=0.90, run_id="c"),
    FinalRun(setting=3, seed=44, score=0.69, run_id="d"),
]


@pytest.fixture
def finish(search, tmp_path, monkeypatch):
    """Complete the finals; every one of them has its folder with a checkpoint."""
    fake = type("Training", (FakeTraining,), {"orders": [], "outcome": {"dev/macro_f1": 0.9, "test/macro_f1": 0.8}})
    monkeypatch.setattr(winner, "Training", fake)
    runs = Runs(tmp_path)

    def call(finished=FINISHED, *, retrain=False, elsewhere=()):
        for one in finished:
            if one.run_id and one.run_id not in elsewhere:
                (tmp_path / one.run_id / artifacts.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        words = ("--epochs", "3", "--read_test", "true")
        last = Finish(words=words, output=tmp_path, share=Share((0, 1)), runs=runs, on_beat=lambda: None)
        return complete(finished, search, last, retrain=retrain)

    call.training, call.runs, call.output, call.search = fake, runs, tmp_path, search
    return call


class TestComplete:
    def test_the_best_mean_wins_and_its_best_seed_stands_for_it(self, finish):
        found = finish()
        assert (found.setting, found.seed, found.run_id) == (1, 44, "c")
        assert found.settings == {"dropout": 0.9}
        assert found.scores["test/macro_f1"] == 0.8

    def test_the_winner_alone_reads_test(self, finish):
        finish()
        (order,) = finish.training.orders
        assert order.folder == finish.output / "c"
        assert order.changes == {"dropout": 0.9, "seed": 44}
        assert order.words == ("--epochs", "3", "--read_test", "true")
        assert finish.runs.created == []
        assert finish.runs.closed == [("c", "FINISHED")]
        assert finish.training.last.done == ["kill"]

    def test_one_that_has_read_test_already_does_not_again(self, finish):
        first = finish()
        assert finish() == first
        assert len(finish.training.orders) == 1

    def test_a_higher_mean_beats_a_higher_seed(self, finish):
        finished = [*FINISHED[:2], FinalRun(setting=1, seed=44, score=0.70, run_id="c"), FINISHED[3]]
        assert (finish(finished).setting, finish(finished).seed) == (3, 44)

    def test_one_that_lacks_a_seed_comes_after_those_that_have_all(self, finish):
        finished = [*FINISHED[:2], FinalRun(setting=1, seed=44, score=None, run_id="c"), FINISHED[3]]
        assert finish(finished).setting == 3

    def test_of_equal_seeds_the_first_stands(self, finish):
        finished = [FinalRun(setting=1, seed=seed, score=0.5, run_id=f"r{seed}") for seed in (45, 43, 44)]
        assert finish(finished).seed == 43

    def test_the_checkpoints_of_all_are_removed_and_the_rest_stays(self, finish):
        finish()
        assert not list(finish.output.glob(f"*/{artifacts.CHECKPOINTS}"))
        assert sorted(path.name for path in finish.output.iterdir()) == ["a", "b", "c", "d"]

    def test_one_that_failed_without_a_run_costs_no_other_its_checkpoints(self, finish):
        (finish.output / artifacts.CHECKPOINTS).mkdir()
        finish([*FINISHED, FinalRun(setting=2, seed=43, score=None, run_id="")])
        assert (finish.output / artifacts.CHECKPOINTS).is_dir()

    def test_one_trained_on_another_machine_is_trained_here_too(self, finish):
        found = finish(elsewhere=["c"])
        assert found.run_id == "made1"
        assert finish.runs.created == [("winner", {artifacts.TAG_STUDY: "s"})]
        assert finish.training.orders[0].folder == finish.output / "made1"

        assert finish(elsewhere=["c"]).run_id == "made1"  # nor anew by the next command
        assert len(finish.training.orders) == 1

    def test_is_trained_once_more_on_train_and_dev(self, finish):
        found = finish(retrain=True)
        first, second = finish.training.orders
        assert found.run_id == "made1"
        assert finish.runs.created == [("winner on train and dev", {artifacts.TAG_STUDY: "s"})]
        assert second.words == (*first.words, "--retrain_from", "c")
        assert second.changes == first.changes
        assert finish(retrain=True).run_id == "made1"  # of the same run, when the command is given again
        assert len(finish.training.orders) == 2

    def test_another_winner_has_another_training_on_train_and_dev(self, finish):
        assert finish(retrain=True).run_id == "made1"
        finished = [*FINISHED[:2], FinalRun(setting=1, seed=44, score=0.70, run_id="c"), FINISHED[3]]
        assert finish(finished, retrain=True).run_id == "made2"
        assert finish(retrain=True).run_id == "made1"

    @pytest.mark.parametrize("finished", [[FinalRun(setting=1, seed=43, score=None, run_id="a")]])
    def test_without_a_score_there_is_no_winner(self, finish, finished):
        with pytest.raises(TuningError, match="finals must have a score, but got none"):
            finish(finished)

    @pytest.mark.parametrize(("status", "run_status"), [(1, "FAILED"), (0, "FINISHED")])
    def test_a_winner_that_cannot_be_trained_is_an_error(self, finish, status, run_status):
        finish.training.status, finish.training.outcome = status, {"dev/macro_f1": 0.9}
        with pytest.raises(TuningError, match="winner's training must end well, but got run c: it has failed"):
            finish()
        assert (finish.output / "c" / artifacts.CHECKPOINTS).is_dir()
        assert finish.runs.closed == [("c", run_status)]

    def test_one_that_was_trained_with_other_settings_is_an_error(self, finish):
        finish.training.uses = {"dropout": 0.5}
        for _ in range(2):  # nor is it taken by the next command
            with pytest.raises(
                TuningError, match=r"training must use what it is given, but got dropout: 0.9 given, 0.5"
            ):
                finish()

    def test_a_stop_ends_it_too(self, finish):
        finish.training.status, finish.training.outcome = None, {}
        with pytest.raises(KeyboardInterrupt):
            finish()
        assert finish.training.last.done == ["wait", "stop", "wait", "kill", "end"]
        assert finish.runs.closed == [("c", "KILLED")]
        assert Path(finish.output / "c" / artifacts.CHECKPOINTS).is_dir()
