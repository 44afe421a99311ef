"""The aliases of a registered model and the tags of its versions, which follow its ledger.

MLflow keeps the last word of whoever writes an alias, and no history. So no decision is read from an alias: every
command first makes aliases and tags what the ledger says, and a command that was cut off is mended by the next one.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from registry.store.decision_log import Entry, Ledger, State
from registry.store.retries import retry_on_conflict
from registry.store.search import versions_of
from trainer.core.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "aliases_of", "champion_on_server", "settle"]

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
_TAG_PREFIX = "promotion."
_ENTRY = f"{_TAG_PREFIX}entry"
_ROUNDS = 20


def settle(client: "MlflowClient", model: str, ledger: Ledger) -> list[str]:
    """Make aliases and tags what the ledger says; returns what had to be changed, in sentences.

    Reads again after writing, until all is as it should be: other writers may be at it too. An alias to a version that
    was deleted is left out. Raises RegistryError when a tag tells of an entry that the ledger no longer has.
    """
    done: list[str] = []
    for _ in range(_ROUNDS):
        tags = {int(version.version): version.tags for version in versions_of(client, model)}  # ahead of the ledger
        entries, state = ledger.read()
        _check_head(tags.values(), state, ledger.name)
        changes = _settle_once(client, model, tags, entries, state)
        if not changes:
            return list(dict.fromkeys(done))
        done += changes
    raise RegistryError(
        f"aliases of {model!r} must come to rest, but got other ones after each of {_ROUNDS} writes. "
        "Stop whatever else moves them, and run this again."
    )


def champion_on_server(client: "MlflowClient", model: str) -> int | None:
    """Version that the alias `champion` points to."""
    version = aliases_of(client, model).get(CHAMPION)
    return None if version is None else int(version)


def _check_head(tags: Iterable[Mapping[str, str]], state: State, ledger: str) -> None:
    last = max((int(one.get(_ENTRY, 0)) for one in tags), default=0)
    if last > state.head:
        raise RegistryError(
            f"ledger must be whole, but got {ledger!r} without entry {last}, of which a version's tag tells. It was "
            f"deleted. Restore the database, or delete the tags {_ENTRY} to go on from entry {state.head}."
        )


def _settle_once(
    client: "MlflowClient",
    model: str,
    tags: Mapping[int, Mapping[str, str]],
    entries: Sequence[Entry],
    state: State,
) -> list[str]:
    if not entries:
        return []
    wanted = {
        alias: str(version)
        for alias, version in ((CHAMPION, state.champion), (PREVIOUS, state.previous), (CHALLENGER, state.challenger))
        if version in tags
    }
    found = aliases_of(client, model)
    changes = []
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        if found.get(alias) == wanted.get(alias):
            continue
        changes.append(f"alias {alias}: {_shown(found.get(alias))} -> {_shown(wanted.get(alias))}")
        if alias in wanted:
            retry_on_conflict(partial(client.set_registered_model_alias, model, alias, wanted[alias]))
        else:
            retry_on_conflict(partial(client.delete_registered_model_alias, model, alias))
    latest = {entry.version: entry for entry in entries}
    for version in latest.keys() & tags.keys():
        if _tell(client, model, tags[version], latest[version], withdrawn=version in state.withdrawn):
            changes.append(f"tags of version {version}")
    return changes


def _tell(client: "MlflowClient", model: str, tags: Mapping[str, str], entry: Entry, *, withdrawn: bool) -> bool:
    """Make the tags of a version tell of the last decision about it; returns whether they did not."""
    wanted, version = _tags(entry, withdrawn=withdrawn), str(entry.version)
    changed = {name: text for name, text in wanted.items() if tags.get(name) != text}
    stale = [name for name in tags if name.startswith(_TAG_PREFIX) and name not in wanted]
    for name in stale:
        retry_on_conflict(partial(client.delete_model_version_tag, model, version, name))
    for name, text in changed.items():
        retry_on_conflict(partial(client.set_model_version_tag, model, version, name, text))
    return bool(changed or stale)


def aliases_of(client: "MlflowClient", model: str) -> Mapping[str, str]:
    """Version by alias."""
    # Searches give versions without their aliases (mlflow issue 16734).
    found: Mapping[str, str] = client.get_registered_model(model).aliases
    return {alias: str(version) for alias, version in found.items()}


def _shown(version: str | None) -> str:
    return "none" if version is None else f"version {version}"


def _tags(entry: Entry, *, withdrawn: bool) -> dict[str, str]:
    told = {
        "decision": entry.kind,
        "entry": entry.number,
        "at": datetime.fromtimestamp(entry.at / 1000, UTC).isoformat(timespec="seconds"),
        "by": entry.by,
        "why": entry.why,
        "replaced": "none" if entry.replaced is None else entry.replaced,
        "run_id": entry.run_id,
        **({"withdrawn": "by a rollback"} if withdrawn else {}),
        **entry.facts,
    }
    return {
        f"{_TAG_PREFIX}{name}": f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in told.items()
    }
