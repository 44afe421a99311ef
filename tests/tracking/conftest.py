"""Stores of MLflow for the tests of tracking."""

import shutil

import pytest
import tenacity
from tracking_helpers import Server

from trainer.tracking import uploader

_MODEL_CODE = """
import mlflow

class Lengths(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None):
        return [len(text) for text in model_input]

mlflow.models.set_model(Lengths())
"""


@pytest.fixture(autouse=True)
def _quick_uploader(monkeypatch):
    monkeypatch.setattr(uploader, "_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(uploader, "_END_SECONDS", 0)
    monkeypatch.setattr(uploader, "_MAX_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(uploader, "_UPLOAD_WAIT", tenacity.wait_none())


@pytest.fixture
def database(tmp_path, monkeypatch, _migrated_store):
    """A client of a local store that only this test uses, in the current folder."""
    shutil.copy(_migrated_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="module")
def server(tmp_path_factory, _migrated_store):
    """A real tracking server on loopback."""
    folder = tmp_path_factory.mktemp("server")
    one = Server(folder, _migrated_store)
    one.start()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    import mlflow

    folder = tmp_path_factory.mktemp("model")
    (folder / "code.py").write_text(_MODEL_CODE)
    mlflow.pyfunc.save_model(folder / "model", python_model=str(folder / "code.py"), pip_requirements=["mlflow"])
    return folder / "model"
