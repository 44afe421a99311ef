"""The uploader against a backend whose answers a test writes down."""

import json
import threading

import pytest
import requests
from mlflow.exceptions import RestException

from trainer.core.errors import TrackingError
from trainer.tracking import uploader
from trainer.tracking.event_log import EventLog
from trainer.tracking.uploader import BackgroundUploader, Uploader


class Backend:
    """Takes events, except those for which `answer` returns an error, and keeps all but the kinds in `loses`."""

    uri = "http://ann:hunter2@server"

    def __init__(self, answer=lambda event: None):
        self.answer = answer
        self.taken = []
        self.kept = set()
        self.loses = set()
        self.calls = 0

    def run(self, run_id):
        return None

    def find_missing(self, folder, events):
        return [event for event in events if event.end not in self.kept]

    def send(self, folder, batch):
        self.calls += 1
        for event in batch:
            if error := self.answer(event):
                raise error
        self.taken += [event.kind for event in batch]
        self.kept |= {event.end for event in batch if event.kind not in self.loses}


@pytest.fixture
def log(tmp_path):
    with EventLog(tmp_path / "r1") as log:
        yield log


def rejected(log):
    path = log.folder / "events.rejected.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def refuse(kind, code):
    error = RestException({"error_code": code, "message": "no permission"})
    return lambda event: error if event.kind == kind else None


def fill(log, kinds=("params", "register", "status")):
    for kind in kinds:
        log.append("r1", kind, {})


def test_what_a_server_took_and_does_not_have_is_sent_again_after_the_status(log):
    backend = Backend()
    backend.loses = {"params"}
    fill(log)
    one = Uploader(log, backend)
    one.upload_pending()

    assert backend.taken == ["params", "register", "status", "params"]
    assert (one.rejected, log.delivered) == (1, log.size)
    assert [entry["kind"] for entry in rejected(log)] == ["params"]
    backend.loses = set()
    log.requeue_rejected()
    one.upload_pending()
    assert (one.rejected, rejected(log)) == (0, [])


class TestArtifactStore:
    """A store that fails while the server answers."""

    def test_it_holds_back_neither_metrics_nor_the_status(self, log):
        backend = Backend(lambda event: RuntimeError("EndpointConnectionError") if event.kind == "artifact" else None)
        fill(log, ("artifact", "artifact", "params", "status"))
        one = Uploader(log, backend)
        one.upload_pending()

        assert backend.taken == ["params", "status"]
        assert backend.calls == 10  # four attempts, and four after the status; the second artifact is not tried
        assert [entry["kind"] for entry in rejected(log)] == ["artifact"] * 2
        assert all("EndpointConnectionError" in entry["reason"] for entry in rejected(log))
        assert log.delivered == log.size

    def test_what_it_refused_is_sent_again_after_the_status(self, log):
        failures = iter([RuntimeError("SlowDown")] * 4)
        backend = Backend(lambda event: next(failures, None) if event.kind == "artifact" else None)
        fill(log, ("artifact", "params", "status"))
        one = Uploader(log, backend)
        one.upload_pending()

        assert backend.taken == ["params", "status", "artifact"]
        assert (one.rejected, rejected(log)) == (0, [])

    def test_at_the_end_of_a_run_it_is_waited_for(self, log, monkeypatch):
        monkeypatch.setattr(uploader, "_END_SECONDS", 30)
        failures = iter([RuntimeError("SlowDown")] * 20)
        backend = Backend(lambda event: next(failures, None) if event.kind == "artifact" else None)
        fill(log, ("artifact", "params", "status"))
        one = BackgroundUploader(log, backend)

        assert one.flush(30, 30)
        assert one.stop()
        assert backend.taken == ["params", "status", "artifact"]
        assert (one.rejected, rejected(log)) == (0, [])

    def test_when_the_server_is_away_too_the_artifact_waits(self, log):
        backend = Backend(lambda _: requests.ConnectionError("away"))
        fill(log, ("artifact", "status"))
        asked = []

        def run(run_id):
            asked.append(run_id)
            if len(asked) == 2:
                raise requests.ConnectionError("away")

        backend.run = run
        one = Uploader(log, backend)
        with pytest.raises(requests.ConnectionError):
            one.upload_pending()
        assert (log.delivered, rejected(log)) == (0, [])


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST", "UNAUTHENTICATED"])
def test_a_refused_event_is_kept_with_its_reason_and_blocks_nothing(log, code, caplog):
    backend = Backend(refuse("register", code))
    fill(log)
    one = Uploader(log, backend)

    assert one.upload_pending() == 3
    assert backend.taken == ["params", "status"]
    assert (one.rejected, log.delivered) == (1, log.size)
    assert [(entry["kind"], code in entry["reason"]) for entry in rejected(log)] == [("register", True)]
    assert [str(log.folder) in record.message for record in caplog.records] == [True]


def test_a_cause_is_said_once_and_events_of_a_refused_batch_are_not_sent_singly(log, caplog):
    backend = Backend(refuse("metrics", "PERMISSION_DENIED"))
    for step in range(20):
        log.append("r1", "metrics", {"metrics": {"a": 1.0}, "step": step})
    Uploader(log, backend).upload_pending()

    assert (backend.calls, len(rejected(log))) == (1, 20)
    assert len(caplog.records) == 1


def test_one_bad_value_does_not_take_its_neighbours_with_it(log):
    bad = RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "name"})
    backend = Backend(lambda event: bad if event.content["step"] == 1 else None)
    for step in range(3):
        log.append("r1", "metrics", {"metrics": {"a": 1.0}, "step": step})
    Uploader(log, backend).upload_pending()

    assert backend.taken == ["metrics", "metrics"]
    assert [entry["content"]["step"] for entry in rejected(log)] == [1]


def test_a_transient_error_is_raised_and_the_order_is_kept(log):
    answers = iter([None, requests.ConnectionError("away")])
    backend = Backend(lambda _: next(answers, None))
    fill(log)
    one = Uploader(log, backend)

    with pytest.raises(requests.ConnectionError):
        one.upload_pending()
    assert backend.taken == ["params"]
    one.upload_pending()
    assert backend.taken == ["params", "register", "status"]
    assert rejected(log) == []


def test_rejected_events_are_sent_again_in_order_after_a_requeue(log):
    backend = Backend(refuse("register", "PERMISSION_DENIED"))
    fill(log)
    Uploader(log, backend).upload_pending()
    log.requeue_rejected()
    backend.answer, backend.taken = (lambda event: None), []
    Uploader(log, backend).upload_pending()

    assert backend.taken == ["params", "register", "status"]
    assert rejected(log) == []
    log.requeue_rejected()
    assert log.delivered == log.size


class TestBackgroundUploader:
    def test_flush_ends_although_the_log_cannot_be_read(self, log, monkeypatch, caplog):
        def fail(*_):
            raise OSError(5, "Input/output error")

        fill(log)
        monkeypatch.setattr("trainer.tracking.event_log.os.pread", fail)
        one = BackgroundUploader(log, Backend())

        assert not one.flush(0.1, 0.1)
        assert one.stop()
        assert isinstance(one.error, TrackingError)
        assert "Input/output error" in caplog.text

    def test_flush_ends_while_the_server_is_away_and_its_thread_stops(self, log, caplog):
        one = BackgroundUploader(log, Backend(lambda _: requests.ConnectionError("http://ann:hunter2@server refused")))
        fill(log)

        assert not one.flush(0.2, 0.2)
        assert one.stop()
        assert "Cannot send events" in caplog.text
        assert "answers again" not in caplog.text
        assert "hunter2" not in caplog.text

    def test_a_server_that_comes_back_gets_everything_and_it_is_said_once(self, log, monkeypatch, caplog):
        monkeypatch.setattr(uploader, "_MAX_PAUSE_SECONDS", 0.01)
        failures = iter([requests.ConnectionError("away")] * 3)
        backend = Backend(lambda _: next(failures, None))
        one = BackgroundUploader(log, backend)
        fill(log)

        assert one.flush(30, 30)
        assert one.stop()
        assert backend.taken == ["params", "register", "status"]
        assert caplog.text.count("Cannot send events") == caplog.text.count("answers again") == 1

    def test_a_flush_asks_a_server_that_was_long_away_again_and_again(self, log, monkeypatch):
        monkeypatch.setattr(uploader, "_MAX_PAUSE_SECONDS", 1000)
        monkeypatch.setattr(uploader, "_FLUSH_PAUSE_SECONDS", 0.01)
        failures = iter([requests.ConnectionError("away")] * 12)  # the last pause alone would be half an hour
        one = BackgroundUploader(log, Backend(lambda _: next(failures, None)))
        fill(log)

        assert one.flush(30, 30)
        assert one.stop()

    def test_an_upload_has_its_own_limit_and_a_hanging_one_ends_too(self, log, monkeypatch):
        monkeypatch.setattr(uploader, "_JOIN_SECONDS", 0.01)
        begun, answer = threading.Event(), threading.Event()

        class Slow(Backend):
            def send(self, folder, batch):
                begun.set()
                answer.wait()
                super().send(folder, batch)

        one = BackgroundUploader(log, Slow())
        fill(log, ["model"])
        threading.Thread(target=lambda: begun.wait() and threading.Timer(0.3, answer.set).start()).start()
        assert one.flush(0.1, 30)

        begun.clear()
        answer.clear()
        fill(log, ["model"])
        assert not one.flush(0.1, 0.2)
        assert not one.stop()
        answer.set()
        one._thread.join()
