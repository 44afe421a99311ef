"""What each check finds, and that its text names no address and no path."""

import http.server
import json
import os
import threading
import time
from contextlib import contextmanager

import pytest

from trainer.service.backups.backup import LAST
from trainer.service.health import checks

HOUR = 3600


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "newest_backup", lambda folder: next(folder.glob("20*"), None))
    return tmp_path


def write_last(folder, **content):
    (folder / LAST).write_text(json.dumps({"time": "2026-11-01T10:00:00+00:00", "ok": True, "what": "", **content}))


def write_backup(folder, hours_ago):
    (folder / "2026").mkdir()
    os.utime(folder / "2026", (time.time() - hours_ago * HOUR,) * 2)


def test_a_new_service_has_time_for_its_first_backup(folder):
    assert checks.backups(folder / "none", 26, time.time() - HOUR).state == "ok"
    assert checks.backups(folder / "none", 26, time.time() - 27 * HOUR).state == "warning"
    assert checks.backups(folder / "none", 0, 0).state == "ok"


def test_a_backup_that_failed_or_is_old_is_a_warning(folder):
    write_backup(folder, hours_ago=3)
    write_last(folder)
    fine = checks.backups(folder, 26, 0)
    assert (fine.state, round(fine.numbers["service_backup_age_seconds"] / HOUR)) == ("ok", 3)
    assert checks.backups(folder, 2, 0).state == "warning"

    write_last(folder, ok=None)
    assert checks.backups(folder, 26, 0).state == "ok"  # one is running
    write_last(folder, ok=False, what="No space left on device")
    failed = checks.backups(folder, 26, 0)
    assert failed.state == "warning"
    assert "No space left" in failed.text


def test_the_fullest_disk_decides(tmp_path, monkeypatch):
    shares = {tmp_path / "a": 0.5, tmp_path / "b": 0.04}
    monkeypatch.setattr(checks, "_free_share", shares.__getitem__)

    found = checks.disk(list(shares), 10)

    assert (found.state, found.numbers) == ("warning", {"service_disk_free_ratio": 0.04})
    assert checks.disk(list(shares), 4).state == "ok"
    assert str(tmp_path) not in found.text


@contextmanager
def answering(status, content=b"OK"):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Be quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_answers_200_works():
    with answering(200) as url:
        assert checks.tracking(url).state == "ok"
    with answering(500) as url, pytest.raises(OSError, match="500"):
        checks.tracking(url)
    with pytest.raises(OSError, match="refused"):
        checks.tracking(url)


@pytest.mark.parametrize(
    ("status", "content", "state", "version"),
    [
        (200, {"status": "ok", "version": 7, "problem": ""}, "ok", 7),
        (200, {"status": "degraded", "version": 6, "problem": "Cannot load it."}, "warning", 6),
        (503, {"status": "waiting", "version": None, "problem": "Promote a run."}, "warning", 0),
    ],
)
def test_the_served_champion(status, content, state, version):
    with answering(status, json.dumps(content | {"model": "emotions"}).encode()) as url:
        found = checks.served_champion(url)

    assert (found.state, found.numbers) == (state, {"service_served_version": version})
    assert content["problem"] in found.text
