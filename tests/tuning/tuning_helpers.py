"""Parts of searches whose trainings are stand-ins."""

import io
import json
import os
import subprocess
import sys
import textwrap
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from tests.tuning.fake_training import Behaviour, FakeExecutor
from tuning import tune
from tuning.reporting import results
from tuning.study.storage import close_storage, open_storage
from tuning.study.trials import Attribute, run_id, started

SPACE = "learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\nepochs: {low: 2, high: 4}\n"
_PROGRAM = """
    import signal, sys
    from tuning.execution import process
    from tuning.study import storage
    from {command} import main

    process.TRAINING = "{training}"
    storage.HEARTBEAT_SECONDS, storage.GRACE_SECONDS = 1, {grace}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
    sys.exit(main(sys.argv[1:]))
"""


def states(study):
    return [trial.state for trial in started(study)]


def is_alive(pid):
    """Whether the process is there and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Searches:
    """Commands of `tune` in one folder, with one tracking server and one storage."""

    command_module, training_module = "tuning.tune", "tests.tuning.fake_training"

    def __init__(self, folder: Path, root: Path, variables: dict[str, str] | None = None) -> None:
        self.folder, self.root, self.variables = folder, root, variables or {}
        self.output = folder / "runs"
        self.executor = FakeExecutor()
        self._storage = None
        self._started: list[subprocess.Popen] = []
        self.behave()
        self.write_space()

    def write_space(self, more: str = "") -> None:
        (self.folder / "space.yaml").write_text(SPACE + more)

    def behave(self, **behaviour) -> None:
        Behaviour(**behaviour).write(self.output)

    def argv(self, settings):
        given = {"study": "s", "space": "space.yaml", "trials": 4, "workers": 2, "top_k": 0, **settings}
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]

    def run(self, *, draws=False, **given):
        """Exit status and output of a command in this process, whose trainings run in its threads.

        draws: whether it makes figures and report.
        """

        def tune_here(config, given):
            return real(config, given, self.executor)

        real = tune.tune
        written = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(written), redirect_stderr(written):
            patch.chdir(self.folder)
            if not draws:
                patch.setattr(results, "write_report", lambda *_: None)
            for name, value in self.variables.items():
                patch.setenv(name, value)
            patch.setattr(tune, "tune", tune_here)
            code = tune.main(self.argv(given))
        return code, " ".join(written.getvalue().split())

    def start(self, *, grace=60, **settings):
        """A command in a process of its own, whose trainings are processes. grace: age of a heartbeat that is stale."""
        path = self.folder / "command.py"
        path.write_text(
            textwrap.dedent(_PROGRAM).format(grace=grace, command=self.command_module, training=self.training_module)
        )
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONUNBUFFERED": "1", **self.variables}
        made = subprocess.Popen(
            [sys.executable, str(path), *self.argv(settings)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(made)
        return made

    @property
    def study(self):
        return self.load("s")

    def load(self, name):
        if self._storage is None:
            with pytest.MonkeyPatch.context() as patch:
                for variable, value in self.variables.items():
                    patch.setenv(variable, value)
                self._storage = open_storage(self.output)
        return optuna.load_study(study_name=name, storage=self._storage)

    def close(self):
        for process in self._started:  # one that is still there has been left by a test that failed
            process.kill()
            process.communicate()
        if self._storage is not None:
            close_storage(self._storage)

    def wait_for(self, condition, name="s", seconds=180):
        """Wait until the study of this name is so; the study."""
        until, trials = time.monotonic() + seconds, []
        while time.monotonic() < until:
            with suppress(KeyError, optuna.exceptions.StorageInternalError):
                study = self.load(name)
                if condition(study):
                    return study
                trials = study.trials
            time.sleep(0.1)
        raise AssertionError(f"it has not come to that: {[(t.number, t.state, t.user_attrs) for t in trials]}")

    def training(self, study):
        """Trials whose training has begun."""
        running = [trial for trial in study.trials if trial.state == TrialState.RUNNING]
        known = [trial for trial in running if run_id(trial)]
        return [one for one in known if (self.output / run_id(one) / "lives").is_file()]

    def lives(self, trial):
        """Process ids of the trainings that a trial has had."""
        runs = trial.user_attrs[Attribute.RUNS].values()
        return [int(pid) for run in runs for pid in (self.output / run / "lives").read_text().split()]

    def config(self, trial):
        return json.loads((self.output / run_id(trial) / "config.json").read_text())

    def runs(self):
        """Every run on the tracking server."""
        client = MlflowClient()
        return client.search_runs([one.experiment_id for one in client.search_experiments()])
