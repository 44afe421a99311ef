"""One program of the service, as the supervisor starts it."""

import http.client
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Part", "answers", "without_orphans"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A command, and how to know that it works."""

    name: str
    command: Sequence[str]
    """Every user of the machine can read it, so it holds no secret."""
    ready: Callable[[], bool] = lambda: True
    """True when the part answers; called again and again until then."""
    once: bool = False
    """The command ends by itself, with status 0 when it did its work."""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    store: bool = False
    """It stops after the parts that use it, together with the other stores."""


def without_orphans(command: Sequence[str]) -> list[str]:
    """Return a command that first kills what an earlier process of the part left behind."""
    return [sys.executable, "-m", "trainer.service.native.launch", *command]


def answers(port: int, path: str, address: str = "127.0.0.1", host: str = "", tls: Path | None = None) -> bool:
    """Return whether a server answers a request with 200; through TLS with the folder of its certificates."""
    if tls is None:
        connection = http.client.HTTPConnection(address, port, timeout=5)
    else:
        context = ssl.create_default_context(cafile=str(tls / "ca.crt") if (tls / "ca.crt").exists() else None)
        context.check_hostname = False  # the address need not stand in the user's own certificate
        connection = http.client.HTTPSConnection(address, port, timeout=5, context=context)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
