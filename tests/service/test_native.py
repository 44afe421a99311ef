"""The running service: login, artifacts, restarts, and what other users of the machine see of it."""

import os
import signal
import time

import psutil
import pytest

from tests.service.running import RunningService

pytestmark = pytest.mark.service

_PARTS = ("postgres", "s3", "tracking", "health", "edge")


@pytest.fixture
def log_run(monkeypatch):
    """A function that logs a run with an artifact to a service and returns its id."""
    import mlflow

    def log(service):
        _be_client(monkeypatch, service)
        mlflow.set_experiment("native")
        with mlflow.start_run() as run:
            mlflow.log_metric("dev/f1_macro", 0.5)
            mlflow.log_text("an artifact", "notes/a.txt")
        return run.info.run_id

    return log


def test_a_run_with_an_artifact_is_logged_through_the_edge(service, log_run):
    import mlflow

    run = log_run(service)

    assert mlflow.get_run(run).data.metrics == {"dev/f1_macro": 0.5}
    assert mlflow.artifacts.load_text(f"runs:/{run}/notes/a.txt") == "an artifact"


def test_a_request_without_a_login_is_refused(service):
    assert service.request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", user=None).status_code == 401


def test_every_port_is_on_loopback(service):
    addresses = {
        connection.laddr.ip
        for process in _processes(service)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert addresses == {"127.0.0.1"}


def test_secrets_are_in_no_command_line_log_or_open_file(service, log_run):
    log_run(service)
    names = [path for path in (service.folder / "secrets").iterdir() if path.is_file()]
    values = {path.name: path.read_text().strip() for path in names}
    lines = [" ".join(process.cmdline()) for process in _processes(service)]
    logs = [path.read_text(errors="replace") for path in (service.folder / "logs").iterdir()]
    # PostgreSQL's own data, with the hashes of passwords, belongs to its user alone.
    readable = [
        path.read_text(errors="replace")
        for path in service.folder.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and "postgres" not in path.parts
    ]

    assert len(values) >= 9
    assert len(lines) > len(_PARTS)
    assert [name for name, value in values.items() for text in (*lines, *logs, *readable) if value in text] == []


def test_other_users_cannot_list_the_folder(service):
    assert {path.name: oct(path.stat().st_mode & 0o066) for path in _folders(service)} == {
        path.name: "0o0" for path in _folders(service)
    }


@pytest.mark.parametrize("part", _PARTS)
def test_a_part_that_is_killed_is_started_again(service, part):
    killed = service.kill(part)

    until = time.monotonic() + 60
    while service.pid(part) in (0, killed):
        assert time.monotonic() < until
        time.sleep(0.1)
    service.wait_until_healthy()


def test_a_stopped_service_starts_again_on_its_data_with_a_prefix(log_run, monkeypatch, open_folder):
    """Ctrl-C ends the first, and SERVICE_PREFIX is set for the second, which ends when its supervisor is killed."""
    import mlflow

    first = RunningService.start(open_folder / "service")
    try:
        run = log_run(first)
    finally:
        assert first.close() == 0

    again = RunningService.start(open_folder / "service", prefix="/team/mlflow")
    try:
        _be_client(monkeypatch, again)
        assert mlflow.artifacts.load_text(f"runs:/{run}/notes/a.txt") == "an artifact"
        assert mlflow.get_run(log_run(again)).info.status == "FINISHED"
        assert 'src="static-files/' in again.request("GET", "/").text
        assert again.request("GET", "/api/2.0/mlflow/webhooks").status_code == 200  # their secrets have the same key
        left = _processes(again)
    finally:
        os.kill(int((again.folder / "supervisord.pid").read_text()), signal.SIGKILL)
        output, _ = again.process.communicate(timeout=150)
    assert again.process.returncode == 1
    assert "supervisord.log" in output
    assert psutil.wait_procs(left, timeout=10)[1] == []


def _be_client(monkeypatch, service):
    import mlflow

    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(service.url)


def _processes(service):
    return psutil.Process(service.process.pid).children(recursive=True)


def _folders(service):
    return [path for path in service.folder.iterdir() if path.is_dir()]
