import json
import time
import uuid
from dataclasses import replace

import pytest

from tests.service.backups.filled import add_run, contents, insert, put
from trainer.service.backups import clean_up_plan
from trainer.service.backups.clean_up import apply, show
from trainer.service.backups.clean_up_plan import Limits, make_plan
from trainer.service.stores import StoredObject, Stores

DAY = 24 * 3600 * 1000
NOW = round(time.time() * 1000)
LIMITS = Limits(days=30, silent_hours=24)
OLD = {"lifecycle_stage": "deleted", "deleted_time": NOW - 31 * DAY}
RECENT = {"lifecycle_stage": "deleted", "deleted_time": NOW - 29 * DAY}


def place(run_id):
    return f"0/{run_id}/artifacts"


def add_model(stores, run_id, *, stage="active", updated=NOW, experiment=0):
    """Insert a logged model of a run, with one artifact, and return its id."""
    model_id = f"m-{uuid.uuid4().hex}"
    insert(
        stores,
        "logged_models",
        model_id=model_id,
        experiment_id=experiment,
        name="model",
        artifact_location=f"mlflow-artifacts:/0/models/{model_id}/artifacts",
        creation_timestamp_ms=updated,
        last_updated_timestamp_ms=updated,
        status=2,
        lifecycle_stage=stage,
        source_run_id=run_id,
    )
    put(stores, {f"0/models/{model_id}/artifacts/MLmodel": b"model"})
    return model_id


def add_version(stores, name, source, *, run_id=None, version=1, **tags):
    if version == 1:
        insert(stores, "registered_models", name=name, workspace="default")
    row = {"name": name, "version": version, "workspace": "default"}
    insert(stores, "model_versions", **row, source=source, run_id=run_id, current_stage="None", status="READY")
    for key, value in tags.items():
        insert(stores, "model_version_tags", **row, key=key, value=value)


def add_files(stores, *run_ids):
    put(stores, {f"{place(run_id)}/config.json": b"{}" for run_id in run_ids})


def ids(stores, table, column):
    with stores.connect() as connection:
        return {value for (value,) in connection.execute(f"select {column} from {table}")}


def clean(stores, folder):
    plan = make_plan(stores, LIMITS, folder)
    apply(stores, plan)
    return plan


def test_deleted_runs_go_with_their_models_and_artifacts(stores, tmp_path):
    kept, recent, old = add_run(stores), add_run(stores, **RECENT), add_run(stores, **OLD)
    model, kept_model = add_model(stores, old), add_model(stores, kept)
    add_files(stores, kept, recent, old)
    insert(stores, "params", key="p", value="1", run_uuid=old)
    point = {"metric_name": "test/f1_macro", "metric_timestamp_ms": NOW, "metric_step": 1, "metric_value": 0.5}
    insert(stores, "logged_model_metrics", model_id=model, experiment_id=0, run_id=old, **point)

    plan = clean(stores, tmp_path)

    assert (plan.runs, plan.models) == ([old], [model])
    assert ids(stores, "runs", "run_uuid") == {kept, recent}
    assert ids(stores, "logged_models", "model_id") == {kept_model}
    assert set(contents(stores)) == {
        f"{place(kept)}/config.json",
        f"{place(recent)}/config.json",
        f"0/models/{kept_model}/artifacts/MLmodel",
    }


def test_nothing_changes_without_apply(stores, tmp_path):
    old = add_run(stores, **OLD)
    add_files(stores, old)

    table = show(make_plan(stores, LIMITS, tmp_path))

    assert ids(stores, "runs", "run_uuid") == {old}
    assert len(contents(stores)) == 1
    assert next(line.split()[-1] for line in table if "deleted runs" in line) == "1"


def test_what_the_registry_names_stays(stores, tmp_path):
    of_run, of_model, of_decision, of_storage = (add_run(stores, **OLD) for _ in range(4))
    model = add_model(stores, of_model, stage="deleted", updated=NOW - 40 * DAY)
    unregistered = add_model(stores, of_run, stage="deleted", updated=NOW - 40 * DAY)
    add_files(stores, of_run, of_model, of_decision, of_storage)
    add_version(stores, "emotions", f"models:/{model}")
    add_version(stores, "other", f"runs:/{of_run}/model", run_id=of_run)
    add_version(stores, "old", f"mlflow-artifacts:/{place(of_storage)}/model")
    add_version(stores, "emotions-ledger", "models:/emotions/1", entry=json.dumps({"run_id": of_decision}))

    plan = clean(stores, tmp_path)

    assert plan.kept_runs == sorted([of_run, of_model, of_decision, of_storage])
    assert plan.kept_models == [model]
    assert plan.models == [unregistered]
    assert {f"{place(one)}/config.json" for one in plan.kept_runs} <= set(contents(stores))
    assert f"0/models/{model}/artifacts/MLmodel" in contents(stores)


def test_model_that_another_run_uses_stays(stores, tmp_path):
    old, user = add_run(stores, **OLD), add_run(stores)
    model = add_model(stores, old)
    insert(
        stores,
        "inputs",
        input_uuid="1",
        source_type="RUN_INPUT",
        source_id=user,
        destination_type="MODEL_INPUT",
        destination_id=model,
    )

    plan = clean(stores, tmp_path)

    assert (plan.runs, plan.models, plan.kept_models) == ([old], [], [model])


def test_deleted_experiments_go_when_they_are_empty(stores, tmp_path):
    for number in (1, 2):
        row = {"experiment_id": number, "name": str(number), "workspace": "default", "lifecycle_stage": "deleted"}
        insert(stores, "experiments", **row, last_update_time=NOW - 40 * DAY)
    old, needed = add_run(stores, experiment_id=1, **OLD), add_run(stores, experiment_id=2, **OLD)
    add_version(stores, "emotions", f"runs:/{needed}/model", run_id=needed)

    plan = clean(stores, tmp_path)

    assert (plan.runs, plan.experiments) == ([old], ["1"])
    assert ids(stores, "experiments", "experiment_id") == {0, 2}


def test_old_artifacts_of_nothing_go_and_others_stay(stores, tmp_path, monkeypatch):
    lost, named, fresh, run_id = (
        (uuid.uuid4().hex for _ in range(3)),
        uuid.uuid4().hex,
        uuid.uuid4().hex,
        add_run(stores),
    )
    run, model, trace = lost
    add_version(stores, "emotions", f"mlflow-artifacts:/0/{named}/artifacts/model")
    old = [place(run), f"0/models/m-{model}/artifacts", f"0/traces/tr-{trace}/artifacts", place(named), place(run_id)]
    keys = [f"{folder}/file" for folder in old]
    others = ["mine/data.csv", f"mine/{uuid.uuid4().hex}.bin"]
    put(stores, dict.fromkeys([*keys, *others, f"{place(fresh)}/file"], b"12345"))
    listing = Stores.objects

    def aged(self, client):
        past = time.time() - 40 * 24 * 3600
        return [one if fresh in one.key else replace(one, modified=past) for one in listing(self, client)]

    monkeypatch.setattr(Stores, "objects", aged)

    plan = clean(stores, tmp_path)

    assert {one.key for one in plan.unnamed_objects} == set(keys[:3])
    assert {one.key for one in plan.other_objects} == set(others)
    assert set(contents(stores)) == {*keys[3:], *others, f"{place(fresh)}/file"}


def test_silent_runs_are_closed(stores, tmp_path):
    started = {"status": "RUNNING", "start_time": NOW - 3 * DAY}
    silent, alive, parent, other = (add_run(stores, **started) for _ in range(4))
    child = add_run(stores, status="RUNNING", start_time=NOW - DAY // 2)
    insert(stores, "tags", key="mlflow.parentRunId", value=parent, run_uuid=child)
    for run_id, age in ((silent, 2 * DAY), (alive, DAY // 24)):
        point = {"key": "system/cpu", "value": 1.0, "timestamp": NOW - age, "step": 1, "is_nan": False}
        insert(stores, "latest_metrics", run_uuid=run_id, **point)

    plan = clean(stores, tmp_path)

    assert {one.run_id: one.seen for one in plan.silent} == {silent: NOW - 2 * DAY, other: NOW - 3 * DAY}
    with stores.connect() as connection:
        rows = connection.execute("select run_uuid, status, end_time from runs").fetchall()
        notes = connection.execute("select run_uuid from tags where key = 'error'").fetchall()
    assert {run_id: end for run_id, status, end in rows if status == "KILLED"} == {
        silent: NOW - 2 * DAY,
        other: NOW - 3 * DAY,
    }
    assert {run_id for (run_id,) in notes} == {silent, other}
    assert clean(stores, tmp_path).silent == []


def test_checkpoints_of_finished_and_deleted_runs_go(stores, tmp_path):
    finished, deleted = add_run(stores), add_run(stores, **RECENT)
    failed, elsewhere = add_run(stores, status="FAILED"), uuid.uuid4().hex
    for name in (finished, deleted, failed, elsewhere):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "last.pt").write_bytes(b"1234")

    plan = clean(stores, tmp_path)

    assert {folder.parent.name for folder in plan.checkpoints} == {finished, deleted}
    assert sorted(path.parent.name for path in tmp_path.glob("*/checkpoints")) == sorted([failed, elsewhere])


@pytest.mark.parametrize(
    ("key", "owner"),
    [
        ("0/" + "a" * 32 + "/artifacts/x", "a" * 32),
        ("team/0/models/m-" + "b" * 32 + "/artifacts/a/b", "m-" + "b" * 32),
        ("0/" + "a" * 32 + "/x", None),
        ("0/" + "A" * 32 + "/artifacts/x", None),
    ],
)
def test_owner_of_an_object_is_read_from_its_place(key, owner):
    found = clean_up_plan._PLACE.findall(key)

    assert found == ([owner] if owner else [])
    assert StoredObject(key, 1, "", 0.0).key == key
