"""Uploads logged events to the tracking server, in the order of the log."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

import tenacity

from trainer.core.redaction import redact
from trainer.core.run_folder import sync_command
from trainer.tracking.backend import UPLOADS, MlflowBackend
from trainer.tracking.delivery_errors import PermanentDeliveryError, http_status, is_permanent_error, short_reason
from trainer.tracking.event_log import REJECTED, Event, EventLog
from trainer.tracking.refusals import explain_refusal

__all__ = ["BackgroundUploader", "Uploader"]

_METRICS_PER_CALL = 1000  # MLflow's limit
_INTERVAL_SECONDS = 5.0  # metrics gather: 112 of them take 32 ms in one call and 2.3 s in 112 calls (MLflow 3.17)
_MAX_PAUSE_SECONDS = 30.0
_FLUSH_PAUSE_SECONDS = 2.0  # the end of a run waits, and a server may be back at any moment
_JOIN_SECONDS = 2.0  # a thread inside a call may need the whole HTTP time limit; a run does not wait for it
_UPLOAD_ATTEMPTS = 4
_UPLOAD_WAIT: tenacity.wait.wait_base = tenacity.wait_exponential(max=4)
_END_SECONDS = 90.0  # a store that has worked before is away for a while, and nothing waits behind an ended run
_STORE_PAUSE_SECONDS = 60.0  # other uploads are not tried meanwhile: each might wait for its own time limit
_STATUSES_OF_ACCESS = frozenset({401, 403, 404})  # about user or run: each event of the batch would be refused

_log = logging.getLogger(__name__)


class Uploader:
    """Sends the pending events of a log in order, up to 1000 metrics in one call.

    `rejected` counts events that the server refused for good, `reason` is the last of its reasons. The log keeps them
    in a file, and the events after them are sent. `refusal`: which right is missing for some of them, and what to do.
    After the status of a run, the run is compared with the log: an answer of success proves nothing.
    """

    def __init__(self, log: EventLog, backend: MlflowBackend) -> None:
        self.rejected = 0
        self.reason = ""
        self.refusal: tuple[str, str] | None = None
        self._log = log
        self._backend = backend
        self._store_failure, self._store_failed_at = "", -math.inf
        self._store_seconds = 0.0  # for which an upload is tried at least
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
        if self._settle(batch) and batch[0].kind == "status":
            self._verify(batch[0])
        self._log.mark_delivered(batch[-1].end)

    def _settle(self, batch: list[Event]) -> bool:
        """Send a batch; return False when the server refused an event of it, which is then kept with the reason."""
        try:
            self._send(batch)
        except Exception as error:
            if not is_permanent_error(error):
                raise
            if len(batch) > 1 and http_status(error) not in _STATUSES_OF_ACCESS:
                refused = [event for event in batch if not self._settle([event])]  # a bad value leaves its neighbours
                return not refused
            self._reject(batch, error)
            return False
        return True

    def _verify(self, status: Event) -> None:
        """Send again what the server lacks of an ended run: a proxy may have answered, or the server has refused it.

        Afterwards the file of rejected events contains exactly what is missing on the server.
        """
        logged = (event for event in self._log.events() if event.end <= status.end)
        missing = self._find_missing([event for event in logged if event.run_id in (status.run_id, "")])
        self._log.clear_rejected()
        self.rejected, self.refusal, self._store_failed_at = 0, None, -math.inf
        with self._patience():
            taken = [event for batch in _batches(iter(missing)) if self._settle(batch) for event in batch]
        for event in self._find_missing(taken):
            self._reject([event], PermanentDeliveryError("the server answered success and does not have it"))

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Try uploads longer during the block; here not: `sync` can be given again."""
        yield

    def _find_missing(self, events: list[Event]) -> list[Event]:
        return self._backend.find_missing(self._log.folder, events) if events else []

    def _send(self, batch: list[Event]) -> None:
        if batch[0].kind in UPLOADS:
            self._send_upload(batch)
        else:
            self._backend.send(self._log.folder, batch)

    def _send_upload(self, batch: list[Event]) -> None:
        """Raise PermanentDeliveryError when the artifact store fails although the server answers.

        Metrics and the status of the run must not wait for an artifact store.
        """
        self._backend.run(batch[0].run_id)  # raises when the server itself is away
        if time.monotonic() - self._store_failed_at < _STORE_PAUSE_SECONDS:
            raise PermanentDeliveryError(self._store_failure)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda error: not is_permanent_error(error)),
            stop=tenacity.stop_all(
                tenacity.stop_after_attempt(_UPLOAD_ATTEMPTS), tenacity.stop_after_delay(self._store_seconds)
            ),
            wait=_UPLOAD_WAIT,
            reraise=True,
        )
        try:
            attempts(self._backend.send, self._log.folder, batch)
        except Exception as error:
            if is_permanent_error(error):
                raise
            self._backend.run(batch[0].run_id)
            self._store_failed_at = time.monotonic()
            count = attempts.statistics["attempt_number"]
            self._store_failure = f"the artifact store failed {count} times: {short_reason(error)}"
            raise PermanentDeliveryError(self._store_failure) from error

    def _reject(self, batch: list[Event], error: Exception) -> None:
        refusal = explain_refusal(error)
        self.refusal = refusal or self.refusal
        self.reason = refusal[0] if refusal else short_reason(error)
        self._log.reject(batch, short_reason(error))
        self.rejected += len(batch)
        cause: object = refusal or (batch[0].kind, http_status(error), type(error))
        if cause not in self._said:
            self._said.add(cause)
            _log.warning(
                "The tracking server did not take an event of kind %s (%s). It is kept in %s; later events are sent. "
                "Correct the cause, then run: %s",
                batch[0].kind,
                self.reason,
                self._log.folder / REJECTED,
                sync_command(self._log.folder),
            )


class BackgroundUploader(Uploader):
    """Uploads from a thread every few seconds. After a transient error it tries again after growing pauses.

    `error` is the last failure of the thread, None after a success. `is_uploading`: a file or model is on its way.
    """

    def __init__(self, log: EventLog, backend: MlflowBackend) -> None:
        super().__init__(log, backend)
        self.error: BaseException | None = None
        self.is_uploading = False
        self._changed = threading.Condition()  # guards what follows
        self._is_wanted = False
        self._num_flushes = 0
        self._is_stopped = False
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
            self._num_flushes += 1
            self._changed.notify_all()
            try:
                while self._log.delivered < target:
                    limit = upload_seconds if self.is_uploading else seconds
                    left = max(started, self._last_progress) + limit - time.monotonic()
                    if left <= 0 or not self._thread.is_alive():
                        return False
                    self._changed.wait(left)
            finally:
                self._num_flushes -= 1
        return True

    def stop(self) -> bool:
        """End the thread after its present call; False when a silent server keeps that call waiting."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._thread.join(_JOIN_SECONDS)
        return not self._thread.is_alive()

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        self._store_seconds = _END_SECONDS
        try:
            yield
        finally:
            self._store_seconds = 0.0

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
            _log.warning("The tracking server answers again and has taken all events up to now.")
            self.error = None

    def _settle(self, batch: list[Event]) -> bool:
        is_taken = super()._settle(batch)
        with self._changed:
            self._last_progress = time.monotonic()
            self._changed.notify_all()
        return is_taken

    def _upload(self, batch: list[Event]) -> None:
        super()._upload(batch)
        with self._changed:
            self._changed.notify_all()  # the offset has moved

    def _send_upload(self, batch: list[Event]) -> None:
        self.is_uploading = True
        try:
            super()._send_upload(batch)
        finally:
            self.is_uploading = False

    def _pause(self, seconds: float) -> None:
        with self._changed:
            seconds = min(seconds, _FLUSH_PAUSE_SECONDS) if self._num_flushes else seconds
            self._changed.wait_for(lambda: self._is_wanted or self._is_stopped, seconds)
            self._is_wanted = False

    def _note_failure(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if self.error is None:
            _log.warning(
                "Cannot send events to %s (%s). Training continues; the events are kept in %s and sent again.",
                redact(self._backend.uri),
                short_reason(error),
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
