"""Services and servers that the benchmarks start, in folders of their own that are removed."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.service.faults import Namespace, namespace, small_disk
from tests.service.running import RunningService
from tests.tracking.tracking_helpers import Server

__all__ = ["WORKERS", "folder", "plain_server", "service", "service_for"]

WORKERS = 2  # SERVICE_WORKERS of docker/.env


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder that other users may pass through, as PostgreSQL must where root starts it."""
    path = Path(tempfile.mkdtemp(prefix="emotions-bench-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def service(place: Path | None = None, **settings: object) -> Iterator[RunningService]:
    """Give a running service with the settings of docker/.env, and others as given. place: folder for its folder."""
    with folder() if place is None else contextlib.nullcontext(place) as path:
        running = RunningService.start(path / "service", **{"workers": WORKERS, **settings})
        try:
            yield running
        finally:
            running.close()


@contextlib.contextmanager
def service_for(fault: str, place: Path) -> Iterator[tuple[RunningService, Namespace | None]]:
    """Give a service that the fault can be made to, and the network in which its clients must run."""
    with contextlib.ExitStack() as stack:
        network, settings, home = None, {}, None
        if fault == "edge cut":
            network = stack.enter_context(namespace())
            settings = {"host": network.address, "address": "0.0.0.0"}
        elif fault == "disk full":
            home = stack.enter_context(small_disk(place / "disk"))
        yield stack.enter_context(service(home, **settings)), network


@contextlib.contextmanager
def plain_server() -> Iterator[str]:
    """Give the address of `mlflow server` on SQLite, without TLS and accounts, with as many processes."""
    with folder() as path:
        server = Server(path, workers=WORKERS)
        server.start()
        try:
            yield server.uri
        finally:
            server.stop()
