"""The whole `train` command on a tiny data set and a tiny encoder."""

import os
import sys

import pytest
from train_helpers import Finished, Observer, make_data, only_run, reset_accelerate, save_model

from trainer.core.settings import as_argv
from trainer.train import main


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """The data set of these tests, not to be changed."""
    return make_data(tmp_path_factory.mktemp("data") / "moods")


@pytest.fixture
def own_data(tmp_path):
    """A copy of the data set that the test may change or damage."""
    return make_data(tmp_path / "own")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """The encoder of these tests."""
    return save_model(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture(scope="session")
def base_settings(data_folder, model_folder):
    """Settings of a run of a second: 15 steps."""
    return {
        "dataset": data_folder,
        "model": model_folder,
        "max_length": 32,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "log_steps": 2,
        "bootstrap_resamples": 100,
    }


@pytest.fixture(autouse=True)
def fresh_state():
    """Each test has a state of Accelerate of its own."""
    yield
    reset_accelerate()


@pytest.fixture
def in_tmp(tmp_path, monkeypatch, root):
    """What a run writes below the current folder goes to the test's; child processes find the packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(root), prepend=os.pathsep)
    return tmp_path


@pytest.fixture
def train(base_settings, in_tmp, tracking_uri):
    """Run the whole command in this process, with some settings changed; returns its exit status."""

    def call(**changes):
        reset_accelerate()
        return main(as_argv(base_settings | {"output": in_tmp / "runs"} | changes))

    return call


@pytest.fixture
def program(base_settings, in_tmp, tracking_uri):
    """The same command as a program of its own, for `subprocess`."""

    def command(*start, **changes):
        return [sys.executable, *start, *as_argv(base_settings | {"output": in_tmp / "runs"} | changes)]

    return command


@pytest.fixture(scope="session")
def finished(tmp_path_factory, _migrated_store, base_settings):
    """One complete run, its model registered, for all tests that only look at what a run leaves."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("finished")
    (folder / "mlflow.db").write_bytes(_migrated_store.read_bytes())
    uri = f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        reset_accelerate()
        assert main(as_argv(base_settings | {"output": "runs", "register": "true"})) == 0
    reset_accelerate()
    run = only_run(uri)
    experiment = MlflowClient(uri).get_experiment(run.info.experiment_id)
    return Finished(uri, run, folder / "runs" / run.info.run_id, experiment.name)


@pytest.fixture
def observe(base_settings, tmp_path_factory, monkeypatch, capsys):
    """What can be seen of an epoch of training, with some settings changed."""
    observer = Observer(monkeypatch)

    def call(**changes):
        output = tmp_path_factory.mktemp("observed")
        few = {"epochs": 1, "threshold_folds": 3}  # enough to see what a setting does
        values = base_settings | few | {"output": output} | changes
        seen = observer.run({name: value for name, value in values.items() if value is not None})  # None: not given
        seen.error = " ".join(capsys.readouterr().err.split())
        return seen

    return call
