"""MLflow's system metrics, sent through the spool: MLflow's own monitor stops for good when the server is away."""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["PREFIX", "SystemMetrics"]

PREFIX = "system/"
_INTERVAL_SECONDS = 10.0

_log = logging.getLogger(__name__)


class SystemMetrics:
    """Samples processor, memory, disk, network and GPU every ten seconds, and once more at `stop`.

    `MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL` changes the interval, `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false`
    switches sampling off, `MLFLOW_SYSTEM_METRICS_NODE_ID` goes into the names, as in MLflow.
    """

    def __init__(self, log: Callable[[Mapping[str, float], int], None], first_step: int) -> None:
        node = os.environ.get("MLFLOW_SYSTEM_METRICS_NODE_ID")
        self._prefix = f"{PREFIX}{node}/" if node else PREFIX
        self._interval = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or _INTERVAL_SECONDS)
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
            monitors = _monitors()
            _sample(monitors)  # the first processor percentage after start-up is always 0
            is_last = False
            while not is_last:
                is_last = self._stop.wait(self._interval)
                values = {self._prefix + name: value for name, value in _sample(monitors).items()}
                self._log(values, self._step)
                self._step += 1
        except Exception as error:
            # The training goes on: a full disk it meets in its own next call, anything else is not its affair.
            _log.warning("system metrics end here: %s", error)


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor]  # Any: MLflow leaves them untyped
    monitors = [kind() for kind in kinds]
    gpu: Any = GPUMonitor
    with contextlib.suppress(Exception):  # no GPU, no driver or no nvidia-ml-py: each raises its own class
        monitors.append(gpu())
    return monitors


def _sample(monitors: list[Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    for monitor in monitors:
        monitor.collect_metrics()
        values.update(monitor.aggregate_metrics())
        monitor.clear_metrics()
    return values
