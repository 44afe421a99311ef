"""The decision log of a registered model: every decision about its champion, in the order the server accepted them.

A decision is a version of the registered model `<name>-ledger`. MLflow numbers the versions one by one and stores their
tags in the same transaction, so all readers see one order. Each decision names the last one that its writer had read,
its parent. If another decision came in between, the new one is ignored, and its writer reads the log and decides again.
So two writers never replace the same champion, no update is lost, and there is no lock that a killed process could
keep.
"""

import json
import uuid
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from registry.store.versions import retry_on_conflict
from trainer.core.errors import RegistryError
from trainer.core.model_names import LOG_SUFFIX
from trainer.tracking.registered_models import list_versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "Decision", "DecisionLog", "Kind", "RegistryState"]

Kind = Literal["promoted", "refused", "restored", "external"]
CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"

_TAG = "entry"
_OLDER_FIELDS = {"after": "parent"}  # names that older versions wrote
_OLDER_KINDS = {"adopted": "external"}
_FROM_SERVER = ("number", "at")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision about one version."""

    kind: Kind
    """restored: by a rollback. external: somebody set or removed an alias without promote or rollback."""
    version: int
    """Version that was decided about; for a removed alias the version that had it."""
    parent: int
    """Number of the last decision that the writer had read; 0 = none."""
    replaced: int | None
    """Champion when this was decided."""
    why: str
    """The reason, in a sentence."""
    by: str
    """Who decided."""
    run_id: str
    """Run with the artifacts of the decision."""
    becomes_challenger: bool = False
    """Whether a refused version gets the alias."""
    alias: str = CHAMPION
    """Alias that an external decision set or removed."""
    removed: bool = False
    """Whether an external decision removed the alias."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Scores of the gate and digests of the data."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells this decision from a copy that a repeated request may leave."""
    number: int = 0
    """Position in the log; given by the server, as is `at`."""
    at: int = 0
    """Milliseconds since 1970, by the server's clock."""


@dataclass(frozen=True)
class RegistryState:
    """The result of all decisions up to number `head`."""

    head: int = 0
    champions: tuple[int | None, ...] = ()
    """Versions, oldest first: the last is champion, the one before is the target of a rollback. None: no version."""
    challenger: int | None = None
    rolled_back: frozenset[int] = frozenset()
    """Versions that were taken back and not promoted since."""

    @property
    def champion(self) -> int | None:
        """Version that is champion."""
        return self.champions[-1] if self.champions else None

    @property
    def previous(self) -> int | None:
        """Version that a rollback restores."""
        return self.champions[-2] if len(self.champions) > 1 else None

    def version_of(self, alias: str) -> int | None:
        """Return the version that an alias must point to."""
        return {CHAMPION: self.champion, PREVIOUS: self.previous, CHALLENGER: self.challenger}[alias]

    def apply(self, decision: Decision) -> "RegistryState":
        """Return the state after a decision, or this state when the decision came too late."""
        if decision.parent != self.head:
            return self
        after = {
            "promoted": self._promoted,
            "refused": self._refused,
            "restored": self._restored,
            "external": self._external,
        }[decision.kind](decision)
        return replace(after, head=decision.number)

    def _refused(self, decision: Decision) -> "RegistryState":
        return replace(self, challenger=decision.version) if decision.becomes_challenger else self

    def _promoted(self, decision: Decision) -> "RegistryState":
        champions = tuple(version for version in self.champions if version is not None)  # a rollback needs a version
        return replace(
            self,
            champions=(*champions, decision.version),
            challenger=None if self.challenger == decision.version else self.challenger,
            rolled_back=self.rolled_back - {decision.version},
        )

    def _restored(self, decision: Decision) -> "RegistryState":
        """Return to an earlier champion, or put another version in place of the present one."""
        if decision.version in self.rolled_back:  # this rollback undoes an earlier one
            return self._promoted(decision)
        earlier = self.champions[:-1]
        places = [place for place, version in enumerate(earlier) if version == decision.version]
        kept = earlier[: places[-1]] if places else earlier
        gone = {version for version in self.champions[len(kept) :] if version not in (None, decision.version)}
        return replace(
            self,
            champions=(*kept, decision.version),
            challenger=None if self.challenger == decision.version else self.challenger,
            rolled_back=self.rolled_back | gone,
        )

    def _external(self, decision: Decision) -> "RegistryState":
        version = None if decision.removed else decision.version
        if decision.alias == CHALLENGER:
            return replace(self, challenger=version)
        if decision.alias == PREVIOUS:
            return replace(self, champions=(*self.champions[:-1], version, self.champion))
        if version is None:
            return replace(
                self,
                champions=(*self.champions[:-1], None),
                rolled_back=self.rolled_back | {decision.version},
            )
        return self._restored(decision) if version in self.champions[:-1] else self._promoted(decision)


class DecisionLog:
    """The decision log of one registered model on one server."""

    def __init__(self, client: "MlflowClient", model: str) -> None:
        self.name = f"{model}{LOG_SUFFIX}"
        self._client, self._model = client, model
        self._seeded: list[Decision] = []

    def seed(self, decision: Decision) -> None:
        """Read the log as if this decision had been appended; nothing is written."""
        self._seeded.append(replace(decision, number=decision.parent + 1))

    def read(self) -> tuple[list[Decision], RegistryState]:
        """Return the decisions that count, oldest first, and the state after them.

        Raises RegistryError when a decision is missing that a later one follows, or one cannot be read.
        """
        state = RegistryState()
        counted: list[Decision] = []
        for decision in (*self._stored(), *self._seeded):
            # A decision that came too late has a parent too, an earlier one.
            if decision.parent not in (0, *(other.number for other in counted)):
                raise RegistryError(
                    f"Decision {decision.parent} is missing in {self.name}, and decision {decision.number} follows it. "
                    "Somebody deleted it. Restore the database, or delete the whole log to begin a new one from the "
                    "alias champion."
                )
            after = state.apply(decision)
            if after.head != state.head:
                counted.append(decision)
            state = after
        return counted, state

    def append(self, decision: Decision) -> Decision | None:
        """Return the decision as the log has it; None when another came first. Then read and decide again."""
        self._send(decision)
        counted, _ = self.read()
        # Not by number: a repeated request may have left two copies, and the first counts.
        return next((other for other in counted if other.key == decision.key), None)

    def _send(self, decision: Decision) -> None:
        content = {name: value for name, value in asdict(decision).items() if name not in _FROM_SERVER}
        retry_on_conflict(self._create)
        retry_on_conflict(
            lambda: self._client.create_model_version(
                self.name,
                f"models:/{self._model}/{decision.version}",  # a server refuses it together with another run's id
                tags={_TAG: json.dumps(content, allow_nan=False)},
                description=f"version {decision.version} {decision.kind} by {decision.by}: {decision.why}",
                await_creation_for=0,  # the model exists: there is no upload to wait for
            )
        )

    def _create(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(
                self.name,
                description=f"Decision log of `{self._model}`: one version for each decision about its champion, "
                "written by promote and rollback, printed by `mlflow run . -e history`. Do not change it by hand.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by an earlier decision, or another command
                raise

    def _stored(self) -> list[Decision]:
        return [self._read_decision(version) for version in list_versions(self._client, self.name)]

    def _read_decision(self, version: "ModelVersion") -> Decision:
        try:
            content = {_OLDER_FIELDS.get(key, key): value for key, value in json.loads(version.tags[_TAG]).items()}
            content["kind"] = _OLDER_KINDS.get(content["kind"], content["kind"])
            return Decision(**content, number=int(version.version), at=version.creation_timestamp)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # no object, tag, known fields, or JSON
            raise RegistryError(
                f"Version {version.version} of {self.name} is not a decision ({type(error).__name__}: {error}). "
                "Delete that version if promote and rollback did not write it."
            ) from error
