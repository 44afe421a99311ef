"""System metrics go through the event log."""

import threading
import time

from tracking_helpers import history

from trainer.tracking.run import open_run


def test_system_metrics_are_sampled_and_no_thread_outlives_the_run(database, tmp_path):
    before = set(threading.enumerate())
    with open_run(tmp_path) as run:
        assert {thread.name for thread in threading.enumerate()} >= {"tracking-uploader", "system-metrics"}

    assert set(threading.enumerate()) <= before
    names = database.get_run(run.run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= names.keys()


def test_system_metrics_can_be_switched_off_and_timed_as_in_mlflow(database, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_NODE_ID", "node7")
    with open_run(tmp_path) as often:
        time.sleep(0.3)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with open_run(tmp_path) as never:
        pass

    samples = history(database, often.run_id, "system/node7/system_memory_usage_percentage")
    assert [step for step, _, _ in samples] == list(range(len(samples)))
    assert len(samples) >= 2
    assert database.get_run(never.run_id).data.metrics == {}
