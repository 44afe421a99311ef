"""Notices to a team: composed from MLflow's webhooks, posted as `{"text": ...}`, which chat services take."""

import json
import logging
import queue
import threading
import time
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import requests

from trainer.core.model_names import LOG_SUFFIX

__all__ = ["Announcer", "Poster"]

_HOLD_SECONDS = 5.0
"""A text waits so long for an event that forbids it: webhooks arrive in any order."""
_REMEMBERED_SECONDS = 60.0
_CHAMPION = "champion"
_KINDS = {
    "promoted": "version {version} is champion now{instead}",
    "restored": "version {version} is champion again{instead}",
    "refused": "version {version} was refused by the gate{stays}",
    "external": "a change by hand was recorded",
}
_PAUSES = (1, 5, 30, 120)
_log = logging.getLogger(__name__)


class Announcer:
    """Turns the events of one registered model into texts. url: that of MLflow's page."""

    def __init__(self, model: str, url: str) -> None:
        self._model, self._url = model, url
        self._decided: dict[int, float] = {}
        self._decisions: list[tuple[float, int, Mapping[str, Any]]] = []  # when it came, number, entry
        self._first: dict[int, int] = {}  # decision → number of the first that followed it
        self._moves: list[tuple[float, int | None]] = []
        self._lock = threading.Lock()

    def take(self, event: Mapping[str, Any], now: float) -> None:
        """Keep an event for `due`.

        Raises KeyError, TypeError or ValueError for an event that MLflow and this project do not send.
        """
        data, entity = event["data"], event["entity"]
        if entity == "model_version" and data["name"] == f"{self._model}{LOG_SUFFIX}":
            number, decision = int(data["version"]), json.loads(data["tags"]["entry"])
            parent, version = int(decision["parent"]), int(decision["version"])
            self._describe(decision)  # now: the sender of one that cannot be told gets an error
            with self._lock:
                self._first[parent] = min(number, self._first.get(parent, number))
                self._decided[version] = now
                self._decisions.append((now, number, decision))
        if entity == "model_version_alias" and (data["name"], data["alias"]) == (self._model, _CHAMPION):
            with self._lock:
                self._moves.append((now, int(data["version"]) if event["action"] == "created" else None))

    def due(self, now: float) -> list[str]:
        """Return texts about the decisions that count, and the moves of the alias that no decision explains."""
        return [*self._due_decisions(now), *self._due_moves(now)]

    def _due_decisions(self, now: float) -> list[str]:
        """Of decisions after the same one, the decision log counts the first; the others' writers decide again."""
        with self._lock:
            due = [(number, decision) for at, number, decision in self._decisions if now - at >= _HOLD_SECONDS]
            self._decisions = [kept for kept in self._decisions if now - kept[0] < _HOLD_SECONDS]
            counted = set(self._first.values())
        return [self._describe(decision) for number, decision in sorted(due, key=itemgetter(0)) if number in counted]

    def _due_moves(self, now: float) -> list[str]:
        with self._lock:
            due = [version for at, version in self._moves if now - at >= _HOLD_SECONDS]
            self._moves = [move for move in self._moves if now - move[0] < _HOLD_SECONDS]
            explained = {version for version, at in self._decided.items() if now - at < _REMEMBERED_SECONDS}
        return [self._describe_move(version) for version in due if version not in explained]

    def _describe(self, decision: Mapping[str, Any]) -> str:
        version, replaced = int(decision["version"]), decision["replaced"]
        words = {
            "version": version,
            "instead": f", in place of version {replaced}" if replaced else "",
            "stays": f"; version {replaced} stays champion" if replaced else "; there is no champion",
        }
        what = _KINDS[decision["kind"]].format(**words)
        why = str(decision["why"]).rstrip(".")
        return f"{self._model}: {what}. Decided by {decision['by']}: {why}. {self._link(version)}"

    def _describe_move(self, version: int | None) -> str:
        if version is None:
            return f"{self._model}: the alias {_CHAMPION} was removed by hand. There is no champion. {self._link()}"
        return (
            f"{self._model}: the alias {_CHAMPION} was set to version {version} by hand, without promote or rollback. "
            f"{self._link(version)}"
        )

    def _link(self, version: int | None = None) -> str:
        return f"{self._url}/#/models/{self._model}" + (f"/versions/{version}" if version else "")


class Poster:
    """Posts texts to the team's URL, in order, from a thread: a receiver that is away holds nothing up."""

    def __init__(self, url: str) -> None:
        """Start the thread; without a URL, texts are logged only."""
        self._url = url
        self._texts: queue.Queue[str] = queue.Queue(maxsize=1000)
        self.sent = 0
        self.lost = 0
        if url:
            threading.Thread(target=self._post_all, name="post-notices", daemon=True).start()

    def say(self, text: str) -> None:
        """Log a text, and post it when there is a URL."""
        _log.warning("%s", text)
        if not self._url:
            return
        try:
            self._texts.put_nowait(text)
        except queue.Full:
            self.lost += 1

    def _post_all(self) -> None:
        while True:
            text = self._texts.get()
            if self._post(text):
                self.sent += 1
            else:
                self.lost += 1

    def _post(self, text: str) -> bool:
        for pause in (*_PAUSES, None):
            try:
                answer = requests.post(self._url, json={"text": text}, timeout=10, allow_redirects=False)
                if answer.status_code < 300:
                    return True
                cause = f"status {answer.status_code}"
            except requests.RequestException as error:
                cause = type(error).__name__  # its text has the URL, which may hold a token
            _log.warning("The notice cannot be posted (%s).", cause)
            if pause is not None:
                time.sleep(pause)
        return False
