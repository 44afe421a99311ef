"""The aliases of a registered model and the tags of its versions, which follow its ledger.

MLflow keeps the last word of whoever writes an alias, and no history. So no decision is read from an alias: every
command first makes aliases and tags what the ledger says, and a command that was cut off is mended by the next one.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from registry.contention import patiently
from registry.ledger import Entry, Ledger, State
from trainer.core.errors import RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "aliases_of", "champion_on_server", "settle"]

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
_TAG_PREFIX = "promotion."
_ROUNDS = 20


def settle(client: "MlflowClient", model: str, ledger: Ledger) -> list[str]:
    """Make aliases and tags what the ledger says; returns what had to be changed, in sentences.

    Reads again after writing, until all is as it should be: other writers may be at it too. An alias to a version that
    was deleted is left out.
    """
    done: list[str] = []
    for _ in range(_ROUNDS):
        entries, state = ledger.read()
        changes = _settle_once(client, model, entries, state)
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


def _settle_once(client: "MlflowClient", model: str, entries: Sequence[Entry], state: State) -> list[str]:
    if not entries:
        return []
    tags = {
        int(version.version): version.tags
        for version in client.search_model_versions(f"name = '{model}'", max_results=1000)
    }
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
            patiently(partial(client.set_registered_model_alias, model, alias, wanted[alias]))
        else:
            patiently(partial(client.delete_registered_model_alias, model, alias))
    latest = {entry.version: entry for entry in entries}
    for version, entry in latest.items():
        texts = _tags(entry)
        if version in tags and any(tags[version].get(name) != text for name, text in texts.items()):
            changes.append(f"tags of version {version}")
            for name, text in texts.items():
                patiently(partial(client.set_model_version_tag, model, str(version), name, text))
    return changes


def aliases_of(client: "MlflowClient", model: str) -> Mapping[str, str]:
    """Version by alias."""
    # Searches give versions without their aliases (mlflow issue 16734).
    found: Mapping[str, str] = client.get_registered_model(model).aliases
    return {alias: str(version) for alias, version in found.items()}


def _shown(version: str | None) -> str:
    return "none" if version is None else f"version {version}"


def _tags(entry: Entry) -> dict[str, str]:
    told = {
        "decision": entry.kind,
        "entry": entry.number,
        "at": entry.at,
        "by": entry.by,
        "why": entry.why,
        "replaced": "none" if entry.replaced is None else entry.replaced,
        "run_id": entry.run_id,
        **entry.facts,
    }
    return {
        f"{_TAG_PREFIX}{name}": f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in told.items()
    }
