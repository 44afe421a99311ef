"""Uploads logged events to the tracking server, in the order of the log."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import tenacity

from trainer.core.redaction import redact
from trainer.core.run_folder import sync_command
from trainer.tracking.backend import UPLOADS, MlflowBackend
from trainer.tracking.delivery_errors import http_status, is_permanent_error
from trainer.tracking.event_log import REJECTED, Event, EventLog

__all__ = ["BackgroundUploader", "Uploader"]

_METRICS_PER_CALL = 1000  # MLflow's limit
_INTERVAL_SECONDS = 5.0  # metrics gather: 112 of them take 32 ms in one call and 2.3 s in 112 calls (MLflow 3.17)
_MAX_PAUSE_SECONDS = 30.0
_JOIN_SECONDS = 2.0  # a thread inside a call may need the whole HTTP time limit; a run does not wait for it
_STATUSES_OF_ACCESS = frozenset({401, 403, 404})  # about user or run: each event of the batch would be refused

_log = logging.getLogger(__name__)


class Uploader:
    """Sends the pending events of a log in order, up to 1000 metrics in one call.

    `rejected` counts events that the server refused for good, `reason` is the last of its reasons. The log keeps them
    in a file, and the events after them are sent.
    """

    def __init__(self, log: EventLog, backend: MlflowBackend) -> None:
        self.rejected = 0
        self.reason = ""
        self._log = log
        self._backend = backend
        self._said: set[object] = set()  # causes that were warned of: a missing right may refuse thousands of events

    def upload_pending(self, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Send what is pending and return the number of settled events. Raises the first transient error."""
        count = 0
        for batch in _batches(self._log.pending()):
            if is_stopped():
                break
            self._upload(batch)
            count += len(batch)
        return count

    def _upload(self, batch: list[Event]) -> None:
        try:
            self._send(batch)
        except Exception as error:
            if not is_permanent_error(error):
                raise
            if len(batch) > 1 and http_status(error) not in _STATUSES_OF_ACCESS:
                for event in batch:  # one bad value must not take its neighbours with it
                    self._upload([event])
                return
            self._reject(batch, error)  # before it is marked: after a kill in between, it is sent again and not lost
        self._log.mark_delivered(batch[-1].end)

    def _send(self, batch: list[Event]) -> None:
        self._backend.send(self._log.folder, batch)

    def _reject(self, batch: list[Event], error: Exception) -> None:
        self.reason = redact(str(error))
        self._log.reject(batch, self.reason)
        self.rejected += len(batch)
        cause = (batch[0].kind, http_status(error), type(error))
        if cause not in self._said:
            self._said.add(cause)
            _log.warning(
                "The tracking server refused an event of kind %s (%s). It is kept in %s, and later events are sent. "
                "Correct the cause, then run: %s",
                batch[0].kind,
                self.reason,
                self._log.folder / REJECTED,
                sync_command(self._log.folder),
            )


class BackgroundUploader(Uploader):
    """Uploads from a thread every few seconds. After a transient error it tries again after growing pauses.

    `error` is the last failure of the thread, None after a success.
    """

    def __init__(self, log: EventLog, backend: MlflowBackend) -> None:
        super().__init__(log, backend)
        self.error: BaseException | None = None
        self._changed = threading.Condition()  # guards what follows
        self._is_wanted = False
        self._is_stopped = False
        self._is_uploading = False
        self._last_progress = time.monotonic()
        # A daemon, because a call to a silent server must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="tracking-uploader", daemon=True)
        self._thread.start()

    def flush(self, seconds: float, upload_seconds: float) -> bool:
        """Wait until all events logged so far are settled; False when none was for `seconds`.

        While a file or a model is uploaded, the limit is `upload_seconds`.
        """
        target, started = self._log.size, time.monotonic()
        with self._changed:
            self._is_wanted = True
            self._changed.notify_all()
            while self._log.delivered < target:
                limit = upload_seconds if self._is_uploading else seconds
                left = max(started, self._last_progress) + limit - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(left)
        return True

    def stop(self) -> bool:
        """End the thread after its present call; False when a silent server keeps that call waiting."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    def _work(self) -> None:
        attempts = tenacity.Retrying(
            wait=tenacity.wait_exponential(max=_MAX_PAUSE_SECONDS),
            stop=lambda _: self._is_stopped,
            sleep=self._pause,  # a flush or stop ends it early
            before_sleep=self._note_failure,
            retry_error_callback=lambda _: None,  # after a stop; tenacity would raise RetryError
        )
        self._pause(_INTERVAL_SECONDS)
        while not self._is_stopped:
            attempts(self._upload_pending)
            self._pause(_INTERVAL_SECONDS)

    def _upload_pending(self) -> None:
        self.upload_pending(lambda: self._is_stopped)
        if self.error is not None and self._log.delivered == self._log.size:
            _log.warning("The tracking server answers again. All events up to now are delivered.")
            self.error = None

    def _upload(self, batch: list[Event]) -> None:
        super()._upload(batch)
        with self._changed:
            self._last_progress = time.monotonic()
            self._changed.notify_all()

    def _send(self, batch: list[Event]) -> None:
        if batch[0].kind not in UPLOADS:
            super()._send(batch)
            return
        self._backend.run(batch[0].run_id)  # fails fast when the server is away
        self._is_uploading = True
        try:
            super()._send(batch)
        finally:
            self._is_uploading = False

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_wanted or self._is_stopped, seconds)
            self._is_wanted = False

    def _note_failure(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if self.error is None:
            _log.warning(
                "Cannot send events to %s (%s). Training continues; the events are kept in %s and sent again.",
                redact(self._backend.uri),
                redact(str(error)),
                self._log.folder,
            )
        self.error = error
        with self._changed:
            self._changed.notify_all()


def _batches(events: Iterator[Event]) -> Iterator[list[Event]]:
    """Yield events in order; neighbouring metrics of one run come together while they fit into one call."""
    batch: list[Event] = []
    size = 0
    for event in events:
        added = _count_metrics(event)
        joins = batch and added and size and batch[0].run_id == event.run_id and size + added <= _METRICS_PER_CALL
        if batch and not joins:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += added
    if batch:
        yield batch


def _count_metrics(event: Event) -> int:
    metrics = event.content.get("metrics")
    return len(metrics) if event.kind == "metrics" and isinstance(metrics, dict) else 0
