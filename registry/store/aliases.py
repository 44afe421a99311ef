"""Aliases of a registered model and tags of its versions, compared with the decision log.

Promote and rollback first append their decision to the log and then write aliases and tags. The tag `promotion.entry`
of a version is written last, so it tells an interrupted command, which the next one completes, from an alias that
somebody moved by hand, which becomes a decision of kind external.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from registry.store.decision_log import CHALLENGER, CHAMPION, PREVIOUS, Decision, DecisionLog, RegistryState
from registry.store.versions import retry_on_conflict
from trainer.core.errors import RegistryError
from trainer.tracking.registered_models import list_versions, read_aliases

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Move", "Snapshot", "external_moves", "is_interrupted", "read_snapshot", "write_aliases"]

_ALIASES = (CHAMPION, PREVIOUS, CHALLENGER)
_TAG_PREFIX = "promotion."
_ENTRY = f"{_TAG_PREFIX}entry"
_TAGGED_FACTS = ("macro_f1", "delta_macro_f1")
_ROUNDS = 20
_RECHECK_SECONDS = 1.0  # longer than a command takes from one write to the next


@dataclass(frozen=True)
class Move:
    """An alias that differs from the decision log."""

    alias: str
    logged: int | None
    actual: int | None

    @property
    def version(self) -> int:
        """Version that has the alias, or had it when it was removed."""
        return self.actual or self.logged or 0

    def __str__(self) -> str:
        return f"alias {self.alias}: {_shown(self.logged)} -> {_shown(self.actual)}"


@dataclass(frozen=True)
class Snapshot:
    """Aliases and tags on the server, and the decision log, which was read after them."""

    aliases: Mapping[str, int]
    tags: Mapping[int, Mapping[str, str]]
    """Tags of every version that exists."""
    decisions: list[Decision]
    state: RegistryState

    @property
    def wanted(self) -> dict[str, int]:
        """Version by alias as the log has it, without versions that were deleted since."""
        versions = {alias: self.state.version_of(alias) for alias in _ALIASES}
        return {alias: version for alias, version in versions.items() if version is not None and version in self.tags}

    @property
    def moves(self) -> list[Move]:
        """Aliases that differ from the log, champion first."""
        pairs = [(alias, self.wanted.get(alias), self.aliases.get(alias)) for alias in _ALIASES]
        return [Move(*pair) for pair in pairs if pair[1] != pair[2]]

    @property
    def is_incomplete(self) -> bool:
        """True when the last decision is in the log and its aliases and tags are not written completely."""
        last = self.decisions[-1] if self.decisions else None
        return last is not None and last.version in self.tags and _entry(self.tags[last.version]) < last.number


def read_snapshot(client: "MlflowClient", model: str, log: DecisionLog) -> Snapshot:
    """Return the present state. Raises RegistryError when a tag names a decision that the log no longer has."""
    # Tags before the log: the tag of a decision that comes in between would name one that the log seems to lack.
    tags = {int(version.version): version.tags for version in list_versions(client, model)}
    aliases = read_aliases(client, model)
    decisions, state = log.read()
    last = max(map(_entry, tags.values()), default=0)
    if last > state.head:
        raise RegistryError(
            f"Decision {last} is missing in {log.name}, but the tag {_ENTRY} of a version names it. Somebody deleted "
            f"it. Restore the database, or delete the tags {_ENTRY} to continue from decision {state.head}."
        )
    return Snapshot(aliases, tags, decisions, state)


def is_interrupted(client: "MlflowClient", model: str, log: DecisionLog) -> bool:
    """Return True when the command of the last decision ended before it had written aliases and tags."""
    snapshot = read_snapshot(client, model, log)
    if not snapshot.is_incomplete:
        return False
    time.sleep(_RECHECK_SECONDS)  # the command may still be writing
    again = read_snapshot(client, model, log)
    return again.is_incomplete and again.state == snapshot.state


def external_moves(client: "MlflowClient", model: str, log: DecisionLog) -> list[Move]:
    """Return the aliases that somebody moved by hand, champion first."""
    snapshot = read_snapshot(client, model, log)
    if not snapshot.moves or snapshot.is_incomplete:
        return []
    time.sleep(_RECHECK_SECONDS)  # another command may be between two of its writes
    again = read_snapshot(client, model, log)
    return [move for move in again.moves if again.state == snapshot.state and move in snapshot.moves]


def write_aliases(client: "MlflowClient", model: str, log: DecisionLog) -> list[str]:
    """Make aliases and tags what the log says; return what had to be changed.

    Reads again after writing until nothing differs, because other commands may write at the same time.
    """
    done: list[str] = []
    for _ in range(_ROUNDS):
        snapshot = read_snapshot(client, model, log)
        changes = _write_once(client, model, snapshot) if snapshot.decisions else []
        if not changes:
            return list(dict.fromkeys(done))
        done += changes
    raise RegistryError(
        f"The aliases of {model} changed after each of {_ROUNDS} writes. Stop whatever else moves them, and run this "
        "again."
    )


def _write_once(client: "MlflowClient", model: str, snapshot: Snapshot) -> list[str]:
    changes = []
    for move in snapshot.moves:
        changes.append(str(Move(move.alias, move.actual, move.logged)))
        if move.logged is None:
            retry_on_conflict(partial(client.delete_registered_model_alias, model, move.alias))
        else:
            retry_on_conflict(partial(client.set_registered_model_alias, model, move.alias, str(move.logged)))
    latest = {decision.version: decision for decision in snapshot.decisions}
    # The last decision last: only its tag tells whether all writes were done.
    for version, decision in sorted(latest.items(), key=lambda item: item[1].number):
        if version not in snapshot.tags:
            continue
        wanted = _tags(decision, is_rolled_back=version in snapshot.state.rolled_back)
        if _write_tags(client, model, version, snapshot.tags[version], wanted):
            changes.append(f"tags of version {version}")
    return changes


def _write_tags(
    client: "MlflowClient", model: str, version: int, tags: Mapping[str, str], wanted: Mapping[str, str]
) -> bool:
    """Write the tags of a version; return whether any differed."""
    # Of an earlier decision about this version.
    stale = [name for name in tags if name.startswith(_TAG_PREFIX) and name not in wanted]
    changed = {name: text for name, text in wanted.items() if tags.get(name) != text}
    for name in stale:
        retry_on_conflict(partial(client.delete_model_version_tag, model, str(version), name))
    for name, text in changed.items():
        retry_on_conflict(partial(client.set_model_version_tag, model, str(version), name, text))
    return bool(changed or stale)


def _tags(decision: Decision, *, is_rolled_back: bool) -> dict[str, str]:
    numbers = {name: f"{decision.facts[name]:.6g}" for name in _TAGGED_FACTS if name in decision.facts}
    tags = {"decision": "rolled_back" if is_rolled_back else decision.kind, **numbers, "entry": str(decision.number)}
    return {f"{_TAG_PREFIX}{name}": text for name, text in tags.items()}  # `entry` last: see the module's docstring


def _entry(tags: Mapping[str, str]) -> int:
    return int(tags.get(_ENTRY, 0))


def _shown(version: int | None) -> str:
    return "none" if version is None else f"version {version}"
