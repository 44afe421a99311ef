"""Who is told what about the champion, and that no receiver holds anything up."""

import http.server
import json
import queue
import threading
import time

import pytest

from trainer.service.health import notices
from trainer.service.health.notices import Announcer, Poster

LINK = "https://mlflow.example.org/#/models/emotions"


@pytest.fixture
def announcer():
    return Announcer("emotions", "https://mlflow.example.org")


def decision(kind, version=7, number=9, **changes):
    entry = {"kind": kind, "version": version, "replaced": 5, "parent": number - 1}
    entry |= {"why": "gain 0.02 [0.01, 0.03]", "by": "anna", **changes}
    data = {"name": "emotions-ledger", "version": str(number), "tags": {"entry": json.dumps(entry)}}
    return {"entity": "model_version", "action": "created", "data": data}


def move(version, name="emotions", alias="champion"):
    action = "deleted" if version is None else "created"
    data = {"name": name, "alias": alias, **({} if version is None else {"version": str(version)})}
    return {"entity": "model_version_alias", "action": action, "data": data}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("promoted", ["version 7 is champion now, in place of version 5"]),
        ("restored", ["version 7 is champion again, in place of version 5"]),
        ("refused", ["version 7 was refused by the gate; version 5 stays champion"]),
        ("external", ["by hand"]),
    ],
)
def test_a_decision_is_told_with_who_why_and_a_link(announcer, kind, words):
    announcer.take(decision(kind), 0)

    (text,) = announcer.due(5)
    assert [word for word in [*words, "anna", "gain 0.02 [0.01, 0.03]", f"{LINK}/versions/7"] if word not in text] == []


def test_the_first_champion_replaces_none(announcer):
    announcer.take(decision("promoted", replaced=None), 0)
    (text,) = announcer.due(5)
    assert "in place of" not in text


def test_a_decision_that_came_too_late_is_not_told(announcer):
    """Two commands decided after decision 8. Decision 9 counts; the writer of 10 decided again, after 9."""
    announcer.take(decision("promoted", version=8, number=10, parent=8), 0)  # webhooks come in any order
    announcer.take(decision("promoted", version=7, number=9, parent=8), 1)
    announcer.take(decision("refused", version=8, number=11, parent=9, replaced=7), 2)

    told = [text for second in range(10) for text in announcer.due(second)]
    assert ["version 7 is champion" in told[0], "version 8 was refused" in told[1]] == [True, True]
    assert len(told) == 2


def test_a_move_that_a_decision_explains_is_not_told_twice(announcer):
    announcer.take(move(7), 0)  # webhooks come in any order
    announcer.take(decision("promoted"), 1)

    assert [len(announcer.due(second)) for second in range(10)] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0]


def test_a_move_by_hand_is_told_once(announcer):
    announcer.take(decision("promoted", version=6), 0)
    assert len(announcer.due(99)) == 1
    announcer.take(move(3), 100)
    announcer.take(move(None), 100)

    assert announcer.due(101) == []
    there, gone = announcer.due(106)
    assert "set to version 3 by hand" in there
    assert "removed by hand" in gone
    assert announcer.due(200) == []


@pytest.mark.parametrize("event", [move(3, name="other"), move(3, alias="challenger")])
def test_other_models_and_aliases_are_not_told(announcer, event):
    announcer.take(event, 0)
    assert announcer.due(100) == []


@pytest.mark.parametrize(
    "damaged", [{}, {"data": {}}, [], decision("promoted") | {"data": {"name": "emotions-ledger"}}]
)
def test_a_damaged_event_is_an_error(announcer, damaged):
    with pytest.raises((KeyError, TypeError)):
        announcer.take(damaged, 0)


class Receiver:
    """A team's chat, which answers with these statuses in turn."""

    def __init__(self, *statuses):
        self.texts, self._statuses = queue.Queue(), list(statuses)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
                status = receiver._statuses.pop(0) if receiver._statuses else 200
                self.send_response(status)
                self.end_headers()
                if status == 200:
                    receiver.texts.put(text)

            def log_message(self, *_):
                """Be quiet."""

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def test_texts_arrive_in_order_also_after_failures(monkeypatch):
    monkeypatch.setattr(notices, "_PAUSES", (0.01, 0.01))
    receiver = Receiver(500, 503)
    poster = Poster(receiver.url)
    for text in ("one", "two"):
        poster.say(text)

    assert [receiver.texts.get(timeout=30) for _ in range(2)] == ["one", "two"]
    receiver.close()


def test_a_receiver_that_is_away_holds_nothing_up(monkeypatch, caplog):
    monkeypatch.setattr(notices, "_PAUSES", (0.01,))
    poster = Poster("http://127.0.0.1:9/a-token-in-the-path")
    began = time.monotonic()
    for number in range(2000):
        poster.say(f"notice {number}")
    assert time.monotonic() - began < 10
    while poster.lost < 900:
        time.sleep(0.01)
    assert "a-token-in-the-path" not in caplog.text


def test_without_a_url_nothing_is_posted(monkeypatch):
    poster = Poster("")
    monkeypatch.setattr(poster, "_post", lambda _: pytest.fail("posted"))  # `requests` serves an earlier test's thread
    poster.say("text")
    assert (poster.sent, poster.lost) == (0, 0)
