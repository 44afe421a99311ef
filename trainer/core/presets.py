"""Files of settings: shipped presets, and YAML or JSON files of the user."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from trainer.core.errors import SettingsError, nearest

__all__ = ["load_preset", "load_yaml", "preset_names", "upgrade"]

_MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key `<<`, which YAML allows several times in one mapping."""
_OF_ONE_RUN = ("preset", "resume")
"""Settings that every config.json has and that mean nothing for another run."""
_RENAMED_SETTINGS: dict[str, str] = {}
"""Name in an earlier version → name now."""
_RENAMED_VALUES = {("attention", "window"): "compact"}
"""Setting and its value in an earlier version → value now."""


def preset_names(folder: Path) -> list[str]:
    """Return the names of the files shipped in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(preset: str, folder: Path) -> dict[str, Any]:
    """Return the settings of a preset: a name in `folder`, or the path of a YAML or JSON file of flat names.

    The config.json of a run is such a file.
    """
    values = upgrade(load_yaml("preset", preset, folder))
    return {name: value for name, value in values.items() if name not in _OF_ONE_RUN}


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that an earlier version wrote, by the names and values of this version."""
    renamed = {_RENAMED_SETTINGS.get(name, name): value for name, value in values.items()}
    return {
        name: _RENAMED_VALUES.get((name, value), value) if isinstance(value, str) else value
        for name, value in renamed.items()
    }


def load_yaml(setting: str, name: str, folder: Path) -> dict[str, Any]:
    """Return the mapping in a file: the one called `name` in `folder`, or the YAML or JSON file at that path.

    setting: the setting whose value is `name`, for errors.
    Raises SettingsError when there is no such file, or when it is not a mapping with unique names.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml", ".json") else folder / f"{name}.yaml"
    if not path.is_file():
        names = preset_names(folder)
        raise SettingsError(
            f"`{setting}` must be one of {', '.join(names)}, or an existing YAML or JSON file, got {name}."
            f"{nearest(name, names)}"
        )
    try:
        values = _read(path)
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"Cannot read the file of `{setting}`, {path}: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"The file of `{setting}` must contain lines `name: value`, got {path} without any.")
    return values


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text, object_pairs_hook=_unique_pairs)
    _check_yaml_names(yaml.compose(text, yaml.SafeLoader))
    return yaml.safe_load(text)


def _check_yaml_names(root: yaml.Node | None) -> None:
    """Raise ValueError when a mapping repeats a name: PyYAML would silently take the last value."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode) and id(node) not in seen:
            seen.add(id(node))  # an anchor may make a mapping contain itself
            names = [name for name, _ in node.value if isinstance(name, yaml.ScalarNode) and name.tag != _MERGE]
            _check_unique([name.value for name in names])
            nodes += [value for _, value in node.value]


def _unique_pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique([name for name, _ in pairs])
    return dict(pairs)


def _check_unique(names: Sequence[str]) -> None:
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise ValueError(f"`{repeated[0]}` is given twice")
