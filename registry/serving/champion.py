"""The version that is served, and the thread that replaces it when the alias moves."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from registry.serving.loading import load_version
from trainer.core.errors import EmotionsError, RegistryError, TrackingError
from trainer.reporting import console
from trainer.tracking.connection import connect
from trainer.tracking.delivery_errors import short_reason
from trainer.tracking.registered_models import read_aliases

if TYPE_CHECKING:
    from registry.config import ServeConfig
    from trainer.tracking.backend import MlflowBackend

__all__ = ["Champion", "Served", "open_champion"]

_LONGEST_PAUSE = 600.0
Load = Callable[[str, str], tuple[Any, str]]


@dataclass(frozen=True, kw_only=True)
class Served:
    """A loaded version."""

    version: int
    model: Any  # MLflow's PyFuncModel
    loaded_at: datetime


class Champion:
    """The version of a registered model that has the alias, loaded.

    `look` reads the alias and loads another version beside the present one, which answers until the new one has been
    tried. What fails leaves the present version in place, with the reason in `problem`.
    """

    served: Served | None = None
    problem: str = "The model is being loaded."
    """Why the version with the alias is not served; empty when it is."""
    loads = 0
    failed_loads = 0

    def __init__(self, config: "ServeConfig", screen: console.Console, load: Load) -> None:
        """Serve nothing yet. load: `load_version`."""
        self.name, self.alias = config.registered_model, config.alias
        self._config, self._screen, self._load = config, screen, load
        self._backend: MlflowBackend | None = None
        self._failed = _Failures()
        self._wake = threading.Event()

    def wake(self) -> None:
        """Look now: somebody says that the alias has moved."""
        self._wake.set()

    def watch(self) -> None:
        """Look every `poll_seconds`, and when woken, until the process ends."""
        asked = True
        while True:
            self.look(asked=asked)
            asked = self._wake.wait(self._config.poll_seconds)
            self._wake.clear()

    def look(self, *, asked: bool = True) -> None:
        """Serve the version that has the alias now. asked: try also a version that has just failed."""
        try:
            version = self._read_version()
            if self.served is None or version != self.served.version:
                if not asked and self._failed.must_wait(version):
                    return
                self._replace(version)
            self._set_problem("")
        except EmotionsError as error:
            self._set_problem(str(error))
        except Exception as error:  # the thread must go on: the cause may pass
            self._set_problem(f"Unexpected error ({type(error).__name__}: {error}).")

    def _read_version(self) -> int:
        backend = self._backend = self._backend or connect()
        try:
            version = read_aliases(backend.client, self.name).get(self.alias)
        except Exception as error:
            raise TrackingError(f"Cannot read the alias from the tracking server ({short_reason(error)}).") from None
        if version is None:
            raise RegistryError(f"Registered model `{self.name}` has no alias `{self.alias}`. Promote a run.")
        return version

    def _replace(self, version: int) -> None:
        source = f"models:/{self.name}/{version}"
        began = time.monotonic()
        try:
            model, warning = self._load(source, self._config.precision)
        except Exception:
            self._failed.count(version, self._config.poll_seconds)
            self.failed_loads += 1
            raise
        self.served = Served(version=version, model=model, loaded_at=datetime.now(UTC))
        self.loads += 1
        self._failed = _Failures()
        self._screen.show_note(f"Serving {source}, loaded in {time.monotonic() - began:.1f} seconds.")
        if warning:
            self._screen.show_warning(warning)

    def _set_problem(self, problem: str) -> None:
        if problem and problem != self.problem:
            kept = f"Version {self.served.version} answers meanwhile." if self.served else "Nothing is served yet."
            self._screen.show_warning(f"{problem} {kept}")
        self.problem = problem


class _Failures:
    """When to try a version again: a large model that stays broken must not be downloaded at every look."""

    def __init__(self) -> None:
        self._version, self._times, self._next = 0, 0, 0.0

    def count(self, version: int, seconds: float) -> None:
        self._times = self._times + 1 if version == self._version else 1
        self._version = version
        self._next = time.monotonic() + min(seconds * 2 ** (self._times - 1), _LONGEST_PAUSE)

    def must_wait(self, version: int) -> bool:
        return version == self._version and time.monotonic() < self._next


def open_champion(config: "ServeConfig", screen: console.Console) -> Champion:
    """Return the champion and start the thread that watches its alias."""
    champion = Champion(config, screen, load_version)
    threading.Thread(target=champion.watch, name="watch-alias", daemon=True).start()
    return champion
