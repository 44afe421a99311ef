"""Every test runs offline, with an MLflow store of its own, and the same random examples each time."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

_ROOT = Path(__file__).resolve().parents[1]
_HUGGING_FACE = tempfile.mkdtemp(prefix="emotions-tests-")

# The libraries read these when they are imported, so they are set before any test module is.
os.environ.update(
    HF_HOME=_HUGGING_FACE,  # a model in the developer's own cache must not decide whether a test passes
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",  # the models are too small for more, and sums keep their order
    TOKENIZERS_PARALLELISM="false",
)
# Set by a surrounding run; inherited, they would send a test's run there.
for _name in (
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"),
    "OPTUNA_STORAGE",
):
    os.environ.pop(_name, None)

# No deadline: the machine may be shared. Derandomized: the same tree gives the same result.
hypothesis.settings.register_profile("emotions", deadline=None, derandomize=True)
hypothesis.settings.load_profile("emotions")


def pytest_unconfigure():
    shutil.rmtree(_HUGGING_FACE, ignore_errors=True)


@pytest.fixture(autouse=True)
def own_tracking_store(tmp_path, monkeypatch):
    """Point MLflow at a store of this test, and take back what the test changed in MLflow's global state."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):  # a command takes them from an address
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # what a test leaves there is taken back too
    yield
    if "mlflow" in sys.modules:
        import mlflow

        while mlflow.active_run():
            mlflow.end_run("KILLED")
        mlflow.set_tracking_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None  # MLflow has no public way to forget an experiment


@pytest.fixture(scope="session")
def _migrated_store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # the artifacts of the default experiment go below the current folder
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def tracking_uri(tmp_path, _migrated_store, own_tracking_store):
    """URI of this test's store, its tables already made: MLflow needs seconds for them, a copy none."""
    shutil.copy(_migrated_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(scope="session")
def root():
    """Root folder of the repository."""
    return _ROOT


@pytest.fixture(scope="session")
def shared_data():
    """Folder with the real data sets; tests that need it are skipped without it."""
    folder = Path(os.environ.get("EMOTIONS_SHARED_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data must be in {folder}, but is not there: name its folder in EMOTIONS_SHARED_DATA")
    return folder
