"""The real `mlflow run`, as a user starts it, in a store of the test."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from entry_points import MODULES

from trainer.core.settings import as_argv


@pytest.fixture(scope="session")
def environment(root):
    """The module .ci/environment.py."""
    spec = importlib.util.spec_from_file_location("environment", root / ".ci" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stand_in(environment, root, tmp_path):
    """A conda stand-in that provides the environment these tests run in."""
    venv = tmp_path / "venv"
    venv.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != "share":  # where the stand-in goes
            (venv / entry.name).symlink_to(entry)
    environment.install_stand_in(venv, root / "conda.yaml")
    return venv / "share" / "conda-stand-in"


@pytest.fixture
def mlflow_run(root, tracking_uri):
    """Start `mlflow run` with parameters, by default of train; returns the process, and the one run of a training."""

    def call(parameters, *options, environment=None, entry_point="train"):
        flags = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
        done = subprocess.run(
            [Path(sys.executable).with_name("mlflow"), "run", ".", "-e", entry_point, *options, *flags],
            cwd=root,
            env=clean_environment() | {"MLFLOW_TRACKING_URI": tracking_uri} | (environment or {}),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        return done, only_run(tracking_uri) if entry_point == "train" else None

    return call


@pytest.fixture
def entry_point(tmp_path, tracking_uri, monkeypatch, capsys):
    """Run an entry point in this process; returns its exit status and what it printed, without line breaks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "Default")  # where `mlflow run` puts its runs

    def call(name, **parameters):
        outputs = {} if name in ("predict", "history") else {"output": tmp_path / "runs"}
        capsys.readouterr()
        status = importlib.import_module(MODULES[name]).main(as_argv(outputs | parameters))
        return status, " ".join(" ".join(capsys.readouterr()).split())

    return call


def clean_environment():
    """The environment of a user who has activated this Python's environment and has no conda."""
    foreign = ("CONDA_EXE", "MLFLOW_CONDA_HOME", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {name: value for name, value in os.environ.items() if name not in foreign} | {"PATH": path}


def only_run(tracking_uri):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    return run
