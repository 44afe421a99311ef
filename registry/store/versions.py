"""Versions of registered models: list them, find their runs, register the model of a run."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from trainer.core.errors import RegistryError
from trainer.tracking.registered_models import list_versions

if TYPE_CHECKING:
    from trainer.tracking.backend import MlflowBackend

__all__ = ["Versions", "retry_on_conflict"]

_T = TypeVar("_T")
_SHOWN = 5
# MLflow's answers when two writers meet in its database: another writer inserted the number or alias first (MLflow's
# own three attempts may not be enough), or the file is locked.
_CONFLICTS = ("RESOURCE_ALREADY_EXISTS", "INTERNAL_ERROR", "BAD_REQUEST", "TEMPORARILY_UNAVAILABLE")
_WAIT = wait_random_exponential(multiplier=0.1, max=6)  # random: two writers do not meet again each time


class Versions:
    """Versions of the registered model `model` on one tracking server."""

    def __init__(self, backend: "MlflowBackend", model: str) -> None:
        self.model = model
        self._backend = backend

    def register(self, run_id: str, model_uri: str, label_names: Sequence[str]) -> int:
        """Return the version with this model of a run; register it when there is none yet.

        Raises SettingsError when the versions of this registered model have other labels.
        """
        self._backend.check_labels(self.model, label_names)
        return retry_on_conflict(lambda: self._backend.register(run_id, self.model, model_uri))

    def run_of(self, version: int) -> str:
        """Return the id of the run that a version came from.

        Raises RegistryError when the version does not exist or does not come from a run.
        """
        run_id = self.find_run(version)
        if not run_id:
            raise RegistryError(
                f"Version {version} of {self.model} does not come from a run, so there is nothing to compare. "
                "Give its aliases to the model of a training run."
            )
        return run_id

    def find_run(self, version: int) -> str:
        """Return the id of the run that a version came from; empty when the version has none."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._backend.client.get_model_version(self.model, str(version)).run_id or "")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            newest = ", ".join(map(str, self.numbers()[-_SHOWN:])) or "none"
            raise RegistryError(
                f"`version` must be a version of {self.model}, got {version}. Its newest versions: {newest}."
            ) from error

    def numbers(self) -> list[int]:
        """Return the numbers of all versions that exist, rising."""
        return [int(version.version) for version in list_versions(self._backend.client, self.model)]

    def uri(self, version: int) -> str:
        """Return the address to load a version from."""
        return f"models:/{self.model}/{version}"


def retry_on_conflict(write: Callable[[], _T]) -> _T:
    """Return the result of `write`, repeated up to 8 times while other writers interfere.

    A failed `write` may have been carried out, so it must be safe to repeat.
    """
    attempts = Retrying(retry=retry_if_exception(_is_conflict), stop=stop_after_attempt(8), wait=_WAIT, reraise=True)
    return attempts(write)


def _is_conflict(error: BaseException) -> bool:
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in _CONFLICTS
