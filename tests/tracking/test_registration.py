"""What the registry shows of a version: its labels are those of the others, its description is that of its run."""

import json

import pytest

from trainer.core import artifacts
from trainer.core.errors import SettingsError
from trainer.tracking.connection import connect
from trainer.tracking.run import open_run


@pytest.fixture
def register(tmp_path, saved_model):
    """Log a run with these labels and register its model; returns the run id."""

    def call(*labels):
        with open_run(tmp_path / "runs", name="moods-bce-1") as run:
            (run.folder / artifacts.LABELS).write_text(json.dumps(labels))
            run.log_artifact(artifacts.LABELS)
            run.log_dataset("moods", "d" * 64, "test", "data/moods", {})
            run.log_metrics({"test/macro_f1": 0.5}, 0)
            run.set_tags({artifacts.TAG_NOTE: "On test: macro F1 0.500"})
            run.log_model(saved_model, 3)
            run.check_registration("moods", labels)
            assert run.register("moods")
        return run.run_id

    return call


def test_other_labels_are_refused_with_another_name_as_the_remedy(database, register):
    register("joy", "grief")
    backend = connect()
    backend.check_labels("moods", ["grief", "joy"])
    backend.check_labels("emotions", ["fear"])  # has no versions
    with pytest.raises(SettingsError, match=r"moods: version 1 has 2 labels.*3.*fear.*registered_model="):
        backend.check_labels("moods", ["joy", "grief", "fear"])


def test_labels_of_a_run_that_is_gone_are_not_compared(database, register, tmp_path):
    run_id = register("joy", "grief")
    artifact = next(tmp_path.rglob(f"{run_id}/artifacts/{artifacts.LABELS}"))
    artifact.unlink()
    connect().check_labels("moods", ["fear"])


def test_version_and_registered_model_say_what_they_are(database, register):
    run_id = register("joy")
    (version,) = database.search_model_versions("name = 'moods'")
    assert version.description.startswith("On test: macro F1 0.500")
    assert "run [moods-bce-1](#/experiments/" in version.description
    assert run_id in version.description
    about = database.get_registered_model("moods").description
    assert "moods@champion" in about
    assert "(#/models/moods-ledger)" in about
    (model,) = database.search_logged_models([database.get_run(run_id).info.experiment_id])
    assert f"{run_id}/artifacts/report.html)" in model.tags[artifacts.TAG_NOTE]
    (point,) = model.metrics
    assert (point.key, point.dataset_name, point.dataset_digest) == ("test/macro_f1", "moods", "d" * 32)


def test_the_name_of_a_prompt_is_refused_before_the_training(tracking_uri):
    connect().client.register_prompt("moods", "classify {{text}}")
    with pytest.raises(SettingsError, match="got moods, which is a prompt"):
        connect().check_labels("moods", ["joy"])
