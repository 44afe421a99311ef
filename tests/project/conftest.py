"""The real `mlflow run`, as a user starts it, in a store of the test."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


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
def mlflow_run(root, tmp_path, tracking_uri):
    """Run `mlflow run . -e train`, on a tiny budget unless whole; returns the finished process and its one run."""

    def call(*words, parameters=(), environment=None, whole=False):
        budget = {} if whole else {"epochs": 1, "batch_size": 32, "max_train_rows": 64, "bootstrap_resamples": 100}
        values = budget | {"output": tmp_path / "runs"} | dict(parameters)
        flags = [word for name, value in values.items() for word in ("-P", f"{name}={value}")]
        done = start(root, tracking_uri, "train", *words, *flags, environment=environment)
        return done, only_run(tracking_uri)

    return call


@pytest.fixture
def entry_point(root, tmp_path, tracking_uri):
    """Run an entry point in the present environment; returns what it said, without line breaks. It must end well."""

    def call(name, **parameters):
        outputs = {} if name in ("predict", "history") else {"output": tmp_path / "runs"}
        flags = [word for key, value in (outputs | parameters).items() for word in ("-P", f"{key}={value}")]
        done = start(root, tracking_uri, name, "--env-manager", "local", *flags)
        assert done.returncode == 0, done.stdout + done.stderr
        return " ".join(done.stdout.split())

    return call


def start(root, tracking_uri, name, *words, environment=None):
    return subprocess.run(
        [Path(sys.executable).with_name("mlflow"), "run", ".", "-e", name, *words],
        cwd=root,
        env=clean_environment() | {"MLFLOW_TRACKING_URI": tracking_uri} | (environment or {}),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


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
