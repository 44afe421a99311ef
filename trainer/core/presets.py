"""Files of settings: shipped presets, and YAML or JSON files of the user."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.core.errors import SettingsError, nearest, shorten
from trainer.core.input_files import is_file, read_json, read_yaml, show_path

__all__ = ["load_preset", "load_yaml", "preset_names", "upgrade"]

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
    if not is_file(path):
        names = preset_names(folder)
        raise SettingsError(
            f"`{setting}` must be one of {', '.join(names)}, or an existing YAML or JSON file, got {show_path(name)}."
            f"{nearest(name, names)}"
        )
    try:
        values = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except ValueError as error:
        raise SettingsError(f"Cannot read the file of `{setting}`, {show_path(path)}: {error}.") from error
    if not isinstance(values, dict):
        raise SettingsError(f"The file of `{setting}`, {show_path(path)}, must have lines `name: value`, got none.")
    for key in values:
        if not isinstance(key, str):  # YAML reads `1: 2` and `~: 2` so
            shown = "null" if key is None else shorten(key)
            raise SettingsError(f"The names in the file of `{setting}`, {show_path(path)}, must be text, got {shown}.")
    return values
