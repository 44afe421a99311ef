"""Carries operations from the spool to the tracking server, beside the training and behind its back."""

import logging
import threading
import time
from collections.abc import Iterator

from trainer.core.environment import redact
from trainer.tracking.backend import UPLOADS, Store, is_refusal
from trainer.tracking.event_log import Entry, EventLog

__all__ = ["BackgroundUploader", "Delivery"]

_METRICS_PER_CALL = 1000
_INTERVAL_SECONDS = 5.0
_MAX_BACKOFF_SECONDS = 30.0
_JOIN_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Delivery:
    """Sends what is pending, in order, one call for up to 1000 metrics.

    `refused` counts what the server turned down; `stuck_since` is the monotonic time since when nothing has succeeded,
    None while all goes well; `is_uploading` says that something slow is under way.
    """

    def __init__(self, spool: EventLog, store: Store) -> None:
        self.refused = 0
        self.stuck_since: float | None = None
        self.is_uploading = False
        self._spool = spool
        self._store = store

    def drain(self, stop: threading.Event | None = None) -> int:
        """Deliver everything pending, until `stop` is set; returns the number of operations settled.

        An operation that the server will never take is put aside and logged; any other failure is raised, and the
        next call goes on from there.
        """
        count = 0
        for batch in _batches(self._spool.pending()):
            if stop is not None and stop.is_set():
                break
            self._deliver(batch)
            count += len(batch)
        return count

    def _deliver(self, batch: list[Entry]) -> None:
        if self.stuck_since is None:
            self.stuck_since = time.monotonic()
        try:
            if batch[0].kind in UPLOADS:
                self._store.run(batch[0].run_id)  # quick sign that the server answers before a long upload
                self.is_uploading = True
            self._send(batch)
        finally:
            self.is_uploading = False
        self._spool.mark_delivered(batch[-1].end)
        self.stuck_since = None

    def _send(self, batch: list[Entry]) -> None:
        try:
            self._store.apply(self._spool.folder, batch)
        except Exception as error:
            if not is_refusal(error):
                raise
            if len(batch) > 1:  # one bad entry must not take its neighbours with it
                for entry in batch:
                    self._send([entry])
                return
            self._put_aside(batch[0], redact(str(error)))

    def _put_aside(self, entry: Entry, reason: str) -> None:
        self.refused += 1
        self._spool.refuse(entry, reason)
        _log.error("the tracking server refused %s of run %s: %s", entry.kind, entry.run_id, reason)


class BackgroundUploader:
    """A thread that delivers every few seconds and, while the server is away, tries again with growing pauses."""

    def __init__(self, spool: EventLog, store: Store) -> None:
        self._spool = spool
        self._store = store
        self._delivery = Delivery(spool, store)
        self._hurry = threading.Event()
        self._stop = threading.Event()
        self._is_away = False
        self._thread = threading.Thread(target=self._work, name="tracking-courier", daemon=True)
        self._thread.start()

    @property
    def refused(self) -> int:
        """Operations that the server turned down for good."""
        return self._delivery.refused

    def flush(self, seconds: float) -> bool:
        """Wait until all operations made so far are settled; False when nothing has moved for `seconds`.

        There is no limit while deliveries succeed or an upload is under way.
        """
        target, started = self._spool.size, time.monotonic()
        self._hurry.set()
        while self._spool.delivered < target:
            stuck_since = self._delivery.stuck_since
            waited = 0.0 if stuck_since is None else time.monotonic() - max(started, stuck_since)
            if (waited >= seconds and not self._delivery.is_uploading) or not self._thread.is_alive():
                return False
            time.sleep(0.02)
        return True

    def stop(self) -> bool:
        """End the thread after the operation it is at; False when that one hangs on a silent server."""
        self._stop.set()
        self._hurry.set()
        self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        pause = _INTERVAL_SECONDS
        while not self._stop.is_set():
            hurried = self._hurry.wait(pause)
            self._hurry.clear()
            pause = self._attempt(0.0 if hurried or not self._is_away else pause)

    def _attempt(self, last_pause: float) -> float:
        """Deliver once; returns the seconds to wait before the next time."""
        try:
            self._delivery.drain(self._stop)
        except Exception as error:  # training goes on whatever happens here: the spool keeps everything
            self._note_away(error)
            return min(_MAX_BACKOFF_SECONDS, 2 * last_pause or 1.0)
        if self._is_away:
            _log.warning("the tracking server answers again; what was kept is delivered")
            self._is_away = False
        return _INTERVAL_SECONDS

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            _log.warning(
                "cannot deliver to %s (%s); training goes on, and what it logs is kept in %s",
                redact(self._store.uri),
                redact(str(error)),
                self._spool.folder,
            )
        self._is_away = True


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Entries in order; neighbouring metrics of one run together while they stay within one call."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        added = _count_metrics(entry)
        joins = batch and added and size and batch[0].run_id == entry.run_id and size + added <= _METRICS_PER_CALL
        if batch and not joins:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += added
    if batch:
        yield batch


def _count_metrics(entry: Entry) -> int:
    metrics = entry.content.get("metrics")
    return len(metrics) if entry.kind == "metrics" and isinstance(metrics, dict) else 0
