"""The versions of registered models that runs have, with their aliases."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.core.model_names import LOG_SUFFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["find_versions"]

_MOST = 10_000  # of one answer of the server


def find_versions(client: "MlflowClient", run_ids: Sequence[str]) -> Mapping[str, list[str]]:
    """Return run id → texts such as `emotions 3 (champion)`, for the runs whose model is registered."""
    wanted = ", ".join(f"'{run_id}'" for run_id in run_ids)
    page = client.search_model_versions(f"run_id IN ({wanted})", max_results=_MOST)
    found = [version for version in page if not version.name.endswith(LOG_SUFFIX)]
    aliases: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in {version.name for version in found}:
        for alias, number in client.get_registered_model(name).aliases.items():
            aliases[name, str(number)].append(alias)
    texts: dict[str, list[str]] = defaultdict(list)
    for version in sorted(found, key=lambda one: (one.name, int(one.version))):
        named = ", ".join(sorted(aliases[version.name, str(version.version)]))
        texts[str(version.run_id)].append(f"{version.name} {version.version}" + (f" ({named})" if named else ""))
    return dict(texts)
