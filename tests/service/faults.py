"""Faults of a running service: each function makes one, holds it for some seconds, and ends it."""

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["FAULTS", "Namespace", "namespace", "needs_root", "small_disk"]

_KILL_SECONDS = 20.0
_DISK_BYTES = 12 * 2**30  # SeaweedFS makes files of 1 GB; the disk is a sparse file
_BLOCK = 4096
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Namespace:
    """A network namespace in which clients run, with one cable to this machine."""

    name: str
    address: str
    """Of this machine at its end of the cable."""
    device: str
    """This machine's end."""

    def enter(self) -> None:
        """Move this thread, and the threads and processes that it starts, into the namespace."""
        with Path(f"/run/netns/{self.name}").open() as file:
            library = ctypes.CDLL(None, use_errno=True)
            if library.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter network namespace {self.name}")

    def cut(self) -> None:
        """Drop every packet in both directions: no end learns of it."""
        _ip("link", "set", self.device, "down")

    def join(self) -> None:
        """End the cut."""
        _ip("link", "set", self.device, "up")


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """Give a new network namespace; only root can make one."""
    token = secrets.token_hex(3)
    net = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
    one = Namespace(f"emotions-{token}", f"{net}.1", f"em{token}a")
    inner = f"em{token}b"
    _ip("netns", "add", one.name)
    try:
        _ip("link", "add", one.device, "type", "veth", "peer", "name", inner, "netns", one.name)
        _ip("address", "add", f"{one.address}/30", "dev", one.device)
        _ip("link", "set", one.device, "up")
        _ip("-n", one.name, "address", "add", f"{net}.2/30", "dev", inner)
        for device in (inner, "lo"):
            _ip("-n", one.name, "link", "set", device, "up")
        yield one
    finally:
        _ip("netns", "delete", one.name)  # with its cable


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 12 GiB on a new folder; only root can."""
    folder.mkdir(parents=True)
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))  # nothing reserved for root
    _run("mount", "-o", "loop", str(image), str(folder))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))
        image.unlink()


def needs_root() -> str:
    """Return why disks and networks cannot be made here; empty when they can."""
    return "" if os.geteuid() == 0 and all(map(shutil.which, ("mkfs.ext4", "mount", "ip"))) else "only root can make it"


def _killed(service: Any, _: Namespace | None, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        service.kill("tracking")
        time.sleep(min(left, _KILL_SECONDS))


def _stopped(part: str, service: Any, _: Namespace | None, seconds: float) -> None:
    service.stop(part)
    try:
        time.sleep(seconds)
    finally:
        service.start_part(part)


def _cut(_: Any, network: Namespace | None, seconds: float) -> None:
    assert network is not None
    network.cut()
    try:
        time.sleep(seconds)
    finally:
        network.join()


def _full(service: Any, _: Namespace | None, seconds: float) -> None:
    """Fill the disk of the service's folder, again and again: parts remove files of their own."""
    filler, end = service.folder / "filler", time.monotonic() + seconds
    try:
        with filler.open("wb") as file:
            while time.monotonic() < end:
                _fill(file.fileno())
                time.sleep(0.2)
    finally:
        filler.unlink()


def _fill(file: int) -> None:
    size = _DISK_BYTES
    while size >= _BLOCK:
        try:
            os.posix_fallocate(file, os.fstat(file).st_size, size)
        except OSError:
            size //= 2


FAULTS: Mapping[str, Callable[[Any, Namespace | None, float], None]] = {
    "server killed": _killed,
    "PostgreSQL stopped": partial(_stopped, "postgres"),
    "S3 stopped": partial(_stopped, "s3"),
    "edge cut": _cut,
    "disk full": _full,
}
"""Name to a function of the service, the clients' network and seconds."""


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)
