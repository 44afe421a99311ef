"""The versions of one registered model: which run each came from, and how a run becomes one."""

from typing import TYPE_CHECKING

from registry.promotion.candidates import Candidate
from registry.store.aliases import champion_on_server
from registry.store.retries import retry_on_conflict
from registry.store.search import versions_of
from trainer.core import artifacts
from trainer.core.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from trainer.tracking.backend import Store

__all__ = ["Versions"]


class Versions:
    """The registered model `model` on the server of `store`."""

    def __init__(self, store: "Store", model: str) -> None:
        self.model = model
        self._store = store

    def register(self, candidate: Candidate) -> int:
        """Version that holds the candidate's model; a new one, with its card, when there is none yet."""
        card = candidate.folder / artifacts.MODEL_CARD
        return retry_on_conflict(lambda: self._store.register(candidate.run_id, self.model, card))

    def run_of(self, version: int) -> str:
        """Run that a version came from. Raises RegistryError when there is no such version, or it has no run."""
        run_id = str(self._get(version).run_id or "")
        if not run_id:
            raise RegistryError(
                f"version must come from a run, but got {version=} of {self.model!r} without one. "
                "Register the model of a training run."
            )
        return run_id

    def uri(self, version: int) -> str:
        """Address to load a version from."""
        return f"models:/{self.model}/{version}"

    def champion_by_hand(self) -> int | None:
        """Version under the alias champion; None when there is none, or no such registered model."""
        from mlflow.exceptions import MlflowException

        try:
            return champion_on_server(self._store.client, self.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _get(self, version: int) -> "ModelVersion":
        from mlflow.exceptions import MlflowException

        try:
            return self._store.client.get_model_version(self.model, str(version))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            found = versions_of(self._store.client, self.model)
            numbers = ", ".join(str(one.version) for one in found) or "none"
            raise RegistryError(
                f"version must exist, but got {version=} of {self.model!r}, which has {numbers}. It may have been "
                "deleted; if it was champion, roll back."
            ) from error
