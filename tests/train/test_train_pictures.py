"""Results come first: what fails after them costs a warning."""

import pytest
from train_helpers import client, only_run, read_json

from trainer import pipeline
from trainer.core import artifacts
from trainer.reporting import figures
from trainer.tracking.event_log import EventLog


def failing(*_, **__):
    raise MemoryError("Unable to allocate 20 GiB")


def half_drawn(path, *_, **__):
    path.write_bytes(b"PNG")
    raise ValueError("cannot draw")


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr(figures, "reliability", half_drawn)
    monkeypatch.setattr(figures, "error_cooccurrence", failing)
    monkeypatch.setattr(pipeline, "write_report", failing)


def test_a_run_whose_pictures_fail_keeps_its_results_and_its_model(
    train, without_pictures, tracking_uri, in_tmp, caplog
):
    assert train(register="true") == 0
    run = only_run(tracking_uri)
    folder = in_tmp / "runs" / run.info.run_id
    assert run.info.status == "FINISHED"
    assert len(client(tracking_uri).search_logged_models([run.info.experiment_id])) == 1
    (version,) = client(tracking_uri).search_model_versions()
    assert version.description  # of the model card, which is written before
    assert read_json(folder / artifacts.OUTCOME)["test/macro_f1"] == run.data.metrics["test/macro_f1"]
    drawn = {path.name for path in (folder / artifacts.FIGURES).iterdir()}
    assert "curves.png" in drawn
    assert not drawn & {"reliability.png", "error_cooccurrence.png"}
    assert not (folder / artifacts.REPORT).exists()
    assert not (folder / artifacts.CHECKPOINTS).exists()
    warned = " ".join(record.getMessage() for record in caplog.records)
    assert all(name in warned for name in ("reliability.png", "error_cooccurrence.png", artifacts.REPORT))
    with EventLog(folder) as log:
        events = [(event.kind, event.content.get("path", "")) for event in log.events()]
    model = events.index(("model", ""))
    assert model < min(place for place, (_, path) in enumerate(events) if path.startswith(artifacts.FIGURES))
