"""Every decision about the champion of a registered model, in the order in which the server took them.

An entry is a version of the registered model `<name>-ledger`. MLflow numbers versions one by one, whoever asks from
wherever, and keeps their tags from the same moment on, so all readers see one order. Each entry names the last one that
its writer had read. Where another came between, it counts for nothing, and its writer reads and decides again. So no
two writers ever replace the same champion, no update is lost, and there is no lock for a dead process to hold: a writer
that is killed either has its entry on the server or has changed nothing. Aliases follow the ledger; see `aliases`.
"""

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal

from registry.config import LEDGER_SUFFIX
from registry.store.retries import retry_on_conflict
from registry.store.search import versions_of
from trainer.core.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["Entry", "Kind", "Ledger", "State", "replay"]

Kind = Literal["adopted", "promoted", "refused", "restored"]

_TAG = "entry"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One decision."""

    kind: Kind
    """adopted: the champion that stood before there was a ledger. restored: by a rollback."""
    version: int
    """Version of the model that was decided about."""
    after: int
    """Number of the entry that was the last one when this was decided; 0 = none."""
    replaced: int | None
    """Champion at that time."""
    why: str
    """The reason, in a sentence."""
    by: str
    """Who decided."""
    run_id: str
    """Run with the decision's artifacts."""
    becomes_challenger: bool = False
    """Whether a refused version gets the alias."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Figures of the gate and digests of the data."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Tells this entry from a second copy of it, which a repeated request may leave."""
    number: int = 0
    """Place in the ledger; given by the server, as is `at`."""
    at: int = 0
    """Milliseconds since 1970, by the server's clock."""


@dataclass(frozen=True)
class State:
    """What the entries up to `head` amount to."""

    head: int = 0
    champions: tuple[int, ...] = ()
    """Versions, oldest first: the last is champion, the one before is where a rollback goes."""
    challenger: int | None = None
    withdrawn: frozenset[int] = frozenset()
    """Versions that a rollback took from the throne and nobody put back."""

    @property
    def champion(self) -> int | None:
        """Version that is champion."""
        return self.champions[-1] if self.champions else None

    @property
    def previous(self) -> int | None:
        """Version that a rollback restores."""
        return self.champions[-2] if len(self.champions) > 1 else None

    def then(self, entry: Entry) -> "State":
        """The state after an entry, or the same one when the entry came too late."""
        if entry.after != self.head:
            return self
        if entry.kind == "refused":
            challenger = entry.version if entry.becomes_challenger else self.challenger
            return replace(self, head=entry.number, challenger=challenger)
        if entry.kind == "restored" and entry.version not in self.withdrawn:
            return self._rolled_back(entry)
        return replace(  # a promotion, or a rollback that takes an earlier rollback back
            self,
            head=entry.number,
            champions=(*self.champions, entry.version),
            challenger=None if self.challenger == entry.version else self.challenger,
            withdrawn=self.withdrawn - {entry.version},
        )

    def _rolled_back(self, entry: Entry) -> "State":
        """Down to the champion that is named, or to another version in place of the present one."""
        before = self.champions[:-1]
        places = [place for place, version in enumerate(before) if version == entry.version]
        kept = before[: places[-1]] if places else before
        gone = frozenset(self.champions[len(kept) :]) - {entry.version}
        return replace(
            self,
            head=entry.number,
            champions=(*kept, entry.version),
            challenger=None if self.challenger == entry.version else self.challenger,
            withdrawn=self.withdrawn | gone,
        )


def replay(entries: Iterable[Entry]) -> State:
    """The state after all of these entries, which are in the order of their numbers."""
    return reduce(State.then, entries, State())


class Ledger:
    """The ledger of one registered model on one server."""

    def __init__(self, client: "MlflowClient", model: str) -> None:
        self.name = f"{model}{LEDGER_SUFFIX}"
        self._client, self._model = client, model
        self._assumed: list[Entry] = []

    def assume(self, first: Entry) -> None:
        """Read an empty ledger as one with this entry, which is not written."""
        self._assumed = [replace(first, number=1)]

    def read(self) -> tuple[list[Entry], State]:
        """The entries that count, oldest first, and what they amount to.

        Raises RegistryError when an entry is missing that a later one follows, or one is not of this project's making.
        """
        state = State()
        counted: list[Entry] = []
        for entry in self._stored():
            if entry.after not in (0, *(other.number for other in counted)):
                raise RegistryError(
                    f"ledger must be whole, but got {self.name!r} without entry {entry.after}, which entry "
                    f"{entry.number} follows. It was deleted. Restore the database, or delete the whole ledger to "
                    "begin a new one from the alias champion."
                )
            following = state.then(entry)
            if following is not state:
                counted.append(entry)
            state = following
        return counted, state

    def append(self, entry: Entry) -> Entry | None:
        """The entry as it stands in the ledger; None when another came first. Then read, and decide, again."""
        self._send(entry)
        counted, _ = self.read()
        return next((other for other in counted if other.key == entry.key), None)

    def _send(self, entry: Entry) -> None:
        content = {name: value for name, value in asdict(entry).items() if name not in ("number", "at")}
        self._create()
        retry_on_conflict(
            lambda: self._client.create_model_version(
                self.name,
                f"models:/{self._model}/{entry.version}",  # a server refuses it together with another run's id
                tags={_TAG: json.dumps(content, allow_nan=False)},
                description=f"version {entry.version} {entry.kind.replace('_', ' ')} by {entry.by}: {entry.why}",
                await_creation_for=0,
            )
        )

    def _create(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(
                self.name,
                description=f"Who was champion of `{self._model}` when and why, one version for each decision. "
                "`mlflow run . -e history` reads it. Written by promote and rollback; not to be changed by hand.",
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _stored(self) -> list[Entry]:
        found = [self._entry(version) for version in versions_of(self._client, self.name)]
        return found or self._assumed

    def _entry(self, version: "ModelVersion") -> Entry:
        try:
            content = json.loads(version.tags[_TAG])
            return Entry(**content, number=int(version.version), at=version.creation_timestamp)
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryError(
                f"ledger must hold entries that promote and rollback wrote, but got version={version.version} of "
                f"{self.name!r} ({type(error).__name__}: {error}). Delete that version if it is not one of theirs."
            ) from error
