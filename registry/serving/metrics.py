"""Prometheus metrics of the served champion."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

if TYPE_CHECKING:
    from registry.serving.champion import Champion

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts requests, and shows the state of the champion."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the time of the first count, for each count
        registry = self._registry = CollectorRegistry()
        self._requests = Counter("serve_requests", "Requests to /invocations.", ["status"], registry=registry)
        self._seconds = Histogram(
            "serve_request_seconds", "Seconds of a request to /invocations.", buckets=_SECONDS, registry=registry
        )
        self._version = Gauge("serve_model_version", "Version that answers; 0: none.", registry=registry)
        self._degraded = Gauge(
            "serve_degraded", "1 when the version with the alias is not the one that answers.", registry=registry
        )
        self._loads = Gauge("serve_loads", "Versions loaded since the start.", ["result"], registry=registry)

    def count_request(self, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def text(self, champion: "Champion") -> str:
        """Return all metrics in Prometheus's text format."""
        self._version.set(champion.served.version if champion.served else 0)
        self._degraded.set(bool(champion.problem))
        self._loads.labels("ok").set(champion.loads)
        self._loads.labels("failed").set(champion.failed_loads)
        return generate_latest(self._registry).decode()
