"""One registered model: its versions, its decision log, and aliases that follow the log."""

from typing import TYPE_CHECKING

from registry.store.aliases import Move, external_moves, is_interrupted, write_aliases
from registry.store.decision_log import CHAMPION, Decision, DecisionLog, RegistryState
from registry.store.versions import Versions
from trainer.core.errors import RegistryError
from trainer.tracking.registered_models import read_aliases
from trainer.tracking.registration import check_no_prompt

if TYPE_CHECKING:
    from trainer.tracking.backend import MlflowBackend

__all__ = ["MODEL_RUN", "ModelRegistry"]

MODEL_RUN = "model_run"
"""Fact of a decision: the run that its version came from."""


class ModelRegistry:
    """The registered model `model` on one tracking server. dry_run: nothing is written."""

    def __init__(self, backend: "MlflowBackend", model: str, *, dry_run: bool = False) -> None:
        self.model = model
        self.versions = Versions(backend, model)
        self.log = DecisionLog(backend.client, model)
        self.dry_run = dry_run
        self._client = backend.client

    @property
    def state(self) -> RegistryState:
        """Champion, challenger and earlier champions, by the decision log."""
        return self.log.read()[1]

    def check_name(self) -> None:
        """Raise RegistryError or SettingsError unless the name is free, or a model that the decision log is about."""
        from mlflow.exceptions import MlflowException

        created = None
        try:
            created = self._client.get_registered_model(self.model).creation_timestamp
        except MlflowException as error:  # MLflow says the same of a prompt
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            check_no_prompt(self._client, self.model)
        decisions, _ = self.log.read()
        # A new model counts its versions from 1 again: the log would speak of other versions.
        if decisions and (created is None or decisions[0].at < created):
            raise RegistryError(
                f"The decision log {self.log.name} is about a registered model {self.model} that was deleted or "
                f"renamed. Rename it back, delete {self.log.name} to begin a new log, or give another "
                "`registered_model`."
            )

    def present_champion(self) -> int | None:
        """Return the version that has the alias champion on the server, whatever the log says."""
        return read_aliases(self._client, self.model).get(CHAMPION)

    def commit(self, decision: Decision) -> Decision | None:
        """Append a decision and write aliases and tags; return None when another decision came first."""
        appended = self.log.append(decision)
        if appended is not None:
            write_aliases(self._client, self.model, self.log)
        return appended

    def complete_interrupted(self) -> list[str]:
        """Write aliases and tags of a decision whose command was interrupted; return what was changed."""
        if self.dry_run or not is_interrupted(self._client, self.model, self.log):
            return []
        reason = f"completes decision {self.state.head}, whose command was interrupted"
        return [f"{change}: {reason}" for change in write_aliases(self._client, self.model, self.log)]

    def record_external_moves(self, run_id: str) -> list[str]:
        """Record aliases that somebody moved by hand as decisions; return a sentence on each.

        In a dry run the log is read as if they were recorded. run_id: the run of the command that records them.
        """
        moves = external_moves(self._client, self.model, self.log)
        for move in moves:
            if self.state.version_of(move.alias) != move.actual:  # a champion that was set moves `previous` too
                self._record(move, run_id)
        if moves and not self.dry_run:
            write_aliases(self._client, self.model, self.log)
        kept = "is respected" if self.dry_run else "is respected and recorded in the decision log"
        return [f"{move}, without promote or rollback: this change {kept}" for move in moves]

    def _record(self, move: Move, run_id: str) -> None:
        state = self.state
        decision = Decision(
            kind="external",
            version=move.version,
            parent=state.head,
            replaced=state.champion,
            why=f"{move}, without promote or rollback",
            by="unknown",
            run_id=run_id,
            alias=move.alias,
            removed=move.actual is None,
            facts={MODEL_RUN: self.versions.find_run(move.version)},
        )
        if self.dry_run:
            self.log.seed(decision)
        else:
            self.log.append(decision)  # None: another command has recorded it
