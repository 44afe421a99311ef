"""Parts of searches whose trainings are stand-ins."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import optuna
from mlflow import MlflowClient

from tests.tuning.fake_training import Behaviour
from tuning.attributes import Attribute
from tuning.study import open_storage

SPACE = "learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\nepochs: {low: 2, high: 4}\n"
_PROGRAM = """
    import sys
    from tuning import child, driver, drivers, leader
    from tuning.tune import main

    child.TRAINING, child._PRELOADED = "tests.tuning.fake_training", []
    driver.BEAT_SECONDS, drivers.STALE_SECONDS, leader._LOOK_SECONDS = 0.3, {stale}, 0.1
    if {machine!r}:
        drivers._machine = lambda: {machine!r}
    if __name__ == "__main__":
        sys.exit(main(sys.argv[1:]))
"""


class Searches:
    """Commands of `tune` in one folder, with one tracking server and one storage."""

    def __init__(self, folder: Path, root: Path, variables: dict[str, str] | None = None) -> None:
        self.folder, self.root, self.variables = folder, root, variables or {}
        self.output = folder / "runs"
        self.behave()
        (folder / "space.yaml").write_text(SPACE)

    def behave(self, **behaviour) -> None:
        Behaviour(**behaviour).write(self.output)

    def start(self, *, machine="", stale=2.0, **settings):
        """A driver of its own process. machine: the name of another one that it believes to be on."""
        given = {"study": "s", "space": "space.yaml", "trials": 4, "workers": 2, "top_k": 0, **settings}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        program = textwrap.dedent(_PROGRAM).format(machine=machine, stale=stale)
        path = self.folder / f"driver_{machine}.py"
        path.write_text(program)
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONUNBUFFERED": "1", **self.variables}
        return subprocess.Popen(
            [sys.executable, str(path), *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, **settings):
        """Exit status and output of a driver that has ended."""
        process = self.start(**settings)
        try:
            output, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(process.communicate()[0]) from None
        return process.returncode, " ".join(output.split())

    @property
    def study(self):
        with_storage = {name: self.variables[name] for name in self.variables if name == "OPTUNA_STORAGE"}
        before = {name: os.environ.get(name) for name in with_storage}
        os.environ.update(with_storage)
        try:
            return optuna.load_study(study_name="s", storage=open_storage(self.output))
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def wait_for(self, condition, seconds=60):
        """Wait until the study is so; the study."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                study = self.study
                if condition(study):
                    return study
            except (KeyError, optuna.exceptions.StorageInternalError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"it has not come to that: {[(t.number, t.state, t.user_attrs) for t in study.trials]}")

    def lives(self, trial):
        """Processes that a trial has had, as (pid, cores and GPUs)."""
        found = []
        for run in trial.user_attrs[Attribute.RUNS].values():
            lines = (self.output / run / "lives").read_text().splitlines()
            found += [(int(line.split()[0]), line.partition(" ")[2]) for line in lines]
        return found

    def config(self, trial):
        return json.loads((self.output / trial.user_attrs[Attribute.RUN_ID] / "config.json").read_text())

    def runs(self):
        """Every run on the tracking server."""
        client = MlflowClient()
        return client.search_runs([one.experiment_id for one in client.search_experiments()])


def trainings():
    """Process ids of stand-ins that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"multiprocessing.forkserver" in words:
            found.append(int(path.parent.name))
    return found


def kill(pid):
    os.kill(pid, signal.SIGKILL)
