"""Samples MLflow's system metrics into the event log.

MLflow's own monitor sends them to the server itself and stops for good at the first call that fails.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["PREFIX", "SystemMetrics"]

PREFIX = "system/"

_log = logging.getLogger(__name__)


class SystemMetrics:
    """Samples processor, memory, disk, network and GPU every ten seconds, and once more at `stop`.

    `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` changes the interval, `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false`
    switches sampling off, `MLFLOW_SYSTEM_METRICS_NODE_ID` goes into the names, as in MLflow.
    """

    def __init__(self, log: Callable[[Mapping[str, float], int], None], first_step: int) -> None:
        self._log = log
        self._step = first_step
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin sampling, unless it is switched off."""
        if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() in {"false", "0"}:
            return
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            kind: Any = SystemMetricsMonitor  # MLflow leaves it untyped
            monitor = kind("")  # not started: only its samples are used
            prefix = f"{PREFIX}{monitor.node_id}/" if monitor.node_id else PREFIX
            _sample(monitor)  # the first processor percentage after start-up is always 0
            is_last = False
            while not is_last:
                is_last = self._stop.wait(monitor.sampling_interval)
                self._log({prefix + name: value for name, value in _sample(monitor).items()}, self._step)
                self._step += 1
        except Exception as error:
            # Training continues: of a full disk it learns in its own next call.
            _log.warning("Sampling of system metrics has ended (%s).", error)


def _sample(monitor: Any) -> dict[str, float]:
    monitor.collect_metrics()
    values: dict[str, float] = monitor.aggregate_metrics()
    for source in monitor.monitors:
        source.clear_metrics()  # else the next mean would include these values again
    return values
