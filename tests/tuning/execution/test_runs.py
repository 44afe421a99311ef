"""The MLflow run of a trial after its training has ended."""

import pytest
from mlflow import MlflowClient

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from trainer.tracking.connection import connect
from trainer.tracking.event_log import EventLog
from tuning.execution.runs import Runs, find_run


def test_a_pruned_trial_is_finished_although_the_server_refused_an_event(tracking_uri, tmp_path):
    client = MlflowClient(tracking_uri)
    runs = Runs(connect(), client.create_run("0"))
    run_id = runs.create("trial 0", {})
    with EventLog(tmp_path / run_id) as log:
        log.append(run_id, "open", {"uri": tracking_uri})
        log.append(run_id, "artifact", {"path": "removed.json"})
        log.append(run_id, "tags", {"tags": {artifacts.TAG_ERROR: "SystemExit: 143"}})
        log.append(run_id, "status", {"status": "KILLED"})
    runs.close(tmp_path / run_id, "pruned")

    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags[artifacts.TAG_TRIAL_STATE] == "pruned"
    assert artifacts.TAG_ERROR not in run.data.tags


def test_a_deleted_run_of_a_study_is_restored_and_not_resumed(tracking_uri):
    store = connect()
    run_id = store.client.create_run("0").info.run_id
    assert find_run(store, run_id).info.run_id == run_id
    store.client.delete_run(run_id)
    with pytest.raises(TrackingError, match=f"mlflow runs restore --run-id {run_id}"):
        find_run(store, run_id)
