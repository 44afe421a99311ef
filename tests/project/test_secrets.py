"""A secret that a user types or an address contains is nowhere afterwards: terminal, run folders, database."""

from pathlib import Path

import pytest

from trainer.core.errors import TrackingError
from trainer.core.text_files import write_json
from trainer.tracking import run as tracking

SECRET = "se/cr-et"  # with the sign at which a user name could end
ADDRESSES = (
    f"https://ann:{SECRET}@example.org/x",
    f"https:/ann:{SECRET}@example.org/x",  # as a path library spells it
    f"https://{SECRET.replace('/', '-')}@example.org/x",
    f"https://example.org/x?token={SECRET}",
    f"https://example.org/x?sv=1&{SECRET}=2",
)


def traces(folder, *texts):
    """Files that contain the secret, or the terminal."""
    spellings = [SECRET, SECRET.replace("/", "-"), SECRET.replace("/", "%2F")]
    found = [path for path in Path(folder).rglob("*") if path.is_file() and _contains(path.read_bytes(), spellings)]
    return found + [text for text in texts if _contains(text.encode(), spellings)]


def _contains(content, spellings):
    return any(spelling.encode() in content for spelling in spellings)


SETTINGS = {
    "train": ("dataset", "model", "preset", "output", "class_weights", "resume", "wrong_name"),
    "tune": ("study", "space", "warm_start", "losses", "dataset"),
    "promote": ("run_id", "experiment", "registered_model"),
    "predict": ("input", "output", "model"),
    "rollback": ("reason",),
    "history": ("registered_model",),
    "sync": ("output",),
}


@pytest.mark.parametrize(
    ("name", "setting", "address"),
    [
        *(("train", "dataset", address) for address in ADDRESSES),
        *((name, setting, ADDRESSES[1]) for name, settings in SETTINGS.items() for setting in settings),
    ],
)
def test_an_address_in_a_setting_leaves_no_secret(entry_point, tmp_path, monkeypatch, name, setting, address):
    from mlflow import MlflowClient

    client = MlflowClient()
    monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run("0").info.run_id)  # as `mlflow run` does
    status, shown = entry_point(name, **{setting: address})
    assert status == 1
    assert shown.startswith("error: ")
    assert traces(tmp_path, shown) == []


@pytest.mark.parametrize("address", [f"http://ann:{SECRET}@127.0.0.1:9", f"http://127.0.0.1:9?token={SECRET}"])
def test_the_address_of_a_server_that_is_away_is_shown_without_its_secret(entry_point, tmp_path, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    status, shown = entry_point("history")
    assert (status, "127.0.0.1:9" in shown) == (1, True)
    assert traces(tmp_path, shown) == []


@pytest.mark.parametrize("address", [f"postgresql://ann:{SECRET}@127.0.0.1:1/s", f"mysql://127.0.0.1/s?pw={SECRET}"])
def test_the_address_of_a_storage_is_shown_without_its_secret(entry_point, tmp_path, monkeypatch, address):
    monkeypatch.setenv("OPTUNA_STORAGE", address)
    status, shown = entry_point("tune", max_train_rows=60, epochs=1)
    assert (status, "OPTUNA_STORAGE" in shown) == (1, True)
    assert traces(tmp_path, shown) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_a_run_records_contains_no_secret(tracking_uri, tmp_path, monkeypatch, address):
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    cloned = client.create_run("0", tags={"note": "kept"})
    monkeypatch.setenv("MLFLOW_RUN_ID", cloned.info.run_id)
    with (  # noqa: PT012  # the error must come from inside the run
        pytest.raises(TrackingError),
        tracking.open_run(tmp_path / "runs", parameters={"dataset": address}, tags={"where": address}) as tracker,
    ):
        tracker.log_dataset("mine", "d1", "train", address, {"rows": 1})
        write_json(tracker.folder / "config.json", {})
        raise TrackingError(f"Cannot read {address}")
    run = client.get_run(cloned.info.run_id)
    assert run.info.status == "FAILED"
    assert "Cannot read" in run.data.tags["error"]
    assert traces(tmp_path) == []


def test_the_address_that_mlflow_tags_a_run_with_loses_its_secret(tracking_uri, tmp_path, monkeypatch):
    """The old value stays in the free pages of the SQLite file, so the tag is asked for."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri)
    cloned = client.create_run("0", tags={"mlflow.source.name": ADDRESSES[0]})
    monkeypatch.setenv("MLFLOW_RUN_ID", cloned.info.run_id)
    with tracking.open_run(tmp_path / "runs"):
        pass
    assert client.get_run(cloned.info.run_id).data.tags["mlflow.source.name"] == "https://example.org/x"
