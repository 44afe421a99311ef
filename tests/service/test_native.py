"""The running service: login, artifacts and restarts."""

import time

import pytest

pytestmark = pytest.mark.service


def test_a_run_with_an_artifact_is_logged_through_the_edge(service, monkeypatch, tmp_path):
    import mlflow

    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(service.url)
    mlflow.set_experiment("native")
    with mlflow.start_run() as run:
        mlflow.log_metric("dev/f1_macro", 0.5)
        mlflow.log_text("an artifact", "notes/a.txt")

    assert mlflow.get_run(run.info.run_id).data.metrics == {"dev/f1_macro": 0.5}
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/a.txt") == "an artifact"


def test_a_request_without_a_login_is_refused(service):
    assert service.request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", user=None).status_code == 401


@pytest.mark.parametrize("part", ["postgres", "s3", "tracking", "edge"])
def test_a_part_that_is_killed_is_started_again(service, part):
    killed = service.kill(part)

    until = time.monotonic() + 60
    while service.pid(part) in (0, killed):
        assert time.monotonic() < until
        time.sleep(0.1)
    service.wait_until_healthy()
