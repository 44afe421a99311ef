"""Settings: dataclasses in, command line and JSON out, one list of flat names for both.

A configuration is a frozen dataclass whose fields are component dataclasses; the fields of the components have
names that are unique over all of them, so `mlflow run -P name=value` reaches every one.
Order: field default < preset < flag. The values "" and "preset" mean "not given", because MLproject cannot leave
a declared parameter out.
"""

import difflib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import yaml

from trainer.core.errors import SettingsError

__all__ = [
    "NOT_GIVEN",
    "flatten",
    "from_flat",
    "load_preset",
    "load_yaml",
    "nearest",
    "parse",
    "preset_names",
    "require",
    "split_argv",
]

Config = TypeVar("Config")
Scalar = bool | int | float | str
NOT_GIVEN = ("", "preset")
_BOOLEANS = {"true": True, "false": False}
_MERGE = "tag:yaml.org,2002:merge"
"""Of `<<`, which PyYAML takes as often as it stands there."""


def parse(config_class: type[Config], argv: Sequence[str], preset_folder: Path | None = None) -> Config:
    """Configuration of a command line of `--name value` pairs.

    preset_folder: where the presets are, for a configuration that has the setting `preset`.
    Raises SettingsError for an unknown name (with the nearest one), a name given twice, a missing value, a value of
    the wrong type or out of range, or a preset that cannot be read; exits with status 0 after `--help`.
    """
    hints = {field.name: hint for hint, field in _leaves(config_class)}
    wants_help = any(word in ("-h", "--help") for word in argv)
    pairs = _read_pairs([word for word in argv if word not in ("-h", "--help")], set(hints))
    values, origin = {}, "the defaults"
    if preset_folder is not None:
        preset = pairs.get("preset", _default_of(config_class, "preset"))
        values, origin = load_preset(preset, preset_folder) | {"preset": preset}, f"preset {preset}"
    if wants_help:
        _show_help(config_class, from_flat(config_class, values, origin=origin))
    given = {name: _from_text(hints[name], value) for name, value in pairs.items()}
    return from_flat(config_class, values | given, origin="the command line" if given else origin)


def flatten(config: Any) -> dict[str, Scalar]:
    """Every setting of a configuration by its flat name, in declaration order."""
    flat: dict[str, Scalar] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        flat |= flatten(value) if is_dataclass(value) else {field.name: value}
    return flat


def from_flat(config_class: type[Config], values: Mapping[str, Any], *, origin: str) -> Config:
    """Inverse of `flatten`; settings that are absent keep their defaults.

    `origin` names the source of the values in errors. Raises SettingsError for unknown names and wrong types.
    """
    known = {field.name for _, field in _leaves(config_class)}
    for name in values:
        if name not in known:
            raise SettingsError(_unknown(name, known, origin))
    config: Config = _build(config_class, values, origin)
    return config


def preset_names(folder: Path) -> list[str]:
    """Names of the presets shipped in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(preset: str, folder: Path) -> dict[str, Any]:
    """Settings of a preset: a name in `folder`, or the path of a YAML or JSON file of flat names."""
    values = load_yaml("preset", preset, folder)
    return {name: value for name, value in values.items() if name not in ("preset", "resume")}


def load_yaml(kind: str, name: str, folder: Path) -> dict[str, Any]:
    """What a file of `name: value` lines holds: one shipped in `folder`, or the path of a YAML or JSON file.

    kind: what such a file is, for errors. Raises SettingsError when there is none or it cannot be read.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml", ".json") else folder / f"{name}.yaml"
    got = f"{kind}={name!r}"
    if not path.is_file():
        names = preset_names(folder)
        raise SettingsError(
            f"{kind} must be a shipped name or a YAML file, but got {got}.{nearest(name, names)} "
            f"Shipped: {', '.join(names)}."
        )
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            values = json.loads(text, object_pairs_hook=_as_mapping)
        else:
            _check_names(yaml.compose(text, yaml.SafeLoader))
            values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise SettingsError(f"{kind} must be a readable file of settings, but got {got}: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{kind} must hold `name: value` lines, but got {got} with {type(values).__name__}.")
    return values


def _check_names(root: yaml.Node | None) -> None:
    """Raise ValueError when a mapping has a name twice, of which PyYAML takes the last value."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode) and id(node) not in seen:
            seen.add(id(node))  # it may hold itself, by an anchor
            _once([name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode) and name.tag != _MERGE])
            nodes += [value for _, value in node.value]


def _as_mapping(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    _once([name for name, _ in pairs])
    return dict(pairs)


def _once(names: Sequence[str]) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} is there twice")


def split_argv(config_class: type[Any], argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A command line, parted: the words of this configuration's settings (and of help), and all others by name."""
    known = {field.name for _, field in _leaves(config_class)}
    helps = [word for word in argv if word in ("-h", "--help")]
    pairs = _read_pairs([word for word in argv if word not in helps], None)
    own = [word for name, value in pairs.items() if name in known for word in (f"--{name}", value)]
    return [*own, *helps], {name: value for name, value in pairs.items() if name not in known}


def require(name: str, value: object, holds: bool, rule: str) -> None:
    """Raise SettingsError, naming the setting, its rule and its value, unless the rule holds."""
    if not holds:
        raise SettingsError(f"{name} must {rule}, but got {name}={value!r}.")


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that offers the most similar known name, or nothing when none is similar."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean `{close[0]}`?" if close else ""


def _leaves(config_class: Any) -> Iterator[tuple[Any, Field[Any]]]:
    hints = get_type_hints(config_class)
    for field in fields(config_class):
        if is_dataclass(hints[field.name]):
            yield from _leaves(hints[field.name])
        else:
            yield hints[field.name], field


def _default_of(config_class: Any, name: str) -> str:
    return str(next(field.default for _, field in _leaves(config_class) if field.name == name))


def _unknown(name: str, known: set[str], origin: str) -> str:
    hint = nearest(name, sorted(known)) or " `--help` lists all settings."
    return f"{origin} must use known settings, but got {name=}.{hint}"


def _read_pairs(argv: Sequence[str], known: set[str] | None) -> dict[str, str]:
    """Name and value of each pair that is given. known: the names there are; None = any."""
    pairs: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("--"):
            raise SettingsError(f"command line must consist of `--name value` pairs, but got {word=}.")
        name, has_value, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if known is not None and name not in known:
            raise SettingsError(_unknown(name, known, "command line"))
        if not has_value:
            following = next(words, None)
            if following is None:
                raise SettingsError(f"setting must be followed by a value, but got nothing after {name=}.")
            value = following
        if name in pairs:
            raise SettingsError(f"setting must be given once, but got {name=} twice.")
        if value not in NOT_GIVEN:
            pairs[name] = value
    return pairs


def _build(config_class: Any, values: Mapping[str, Any], origin: str) -> Any:
    hints = get_type_hints(config_class)
    arguments: dict[str, Any] = {}
    for field in fields(config_class):
        if is_dataclass(hints[field.name]):
            arguments[field.name] = _build(hints[field.name], values, origin)
        elif field.name in values:
            arguments[field.name] = _checked(field.name, hints[field.name], values[field.name], origin)
    return config_class(**arguments)


def _checked(name: str, hint: Any, value: Any, origin: str) -> Scalar:
    """The value as its declared type. YAML reads `1e-4` as text, so text that spells a float is accepted as one."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if value in choices:
            return value  # type: ignore[no-any-return]  # one of the choices, which are text
        hint_at = nearest(str(value), choices)
        raise SettingsError(f"{name} must be one of {', '.join(choices)}, but got {value=} in {origin}.{hint_at}")
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif type(value) is hint:
        return value  # type: ignore[no-any-return]  # its type was just compared
    kind = "true or false" if hint is bool else f"of type {hint.__name__}"
    raise SettingsError(f"{name} must be {kind}, but got {value=} in {origin}.")


def _from_text(hint: Any, text: str) -> Scalar:
    """The value that a text spells in the declared type, or the text when it spells none: `_checked` then names it."""
    if hint is bool:
        return _BOOLEANS.get(text, text)
    if hint is int:
        try:
            return int(text)
        except ValueError:
            return text
    return text


def _show_help(config_class: type[Config], shown: Config) -> NoReturn:
    """Print every setting with its documentation and its value in `shown`, and exit."""
    import tyro  # only help needs it

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def lower_case_booleans(info: Any) -> Any:
        if info.type is not bool:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="{true,false}",
            instance_from_str=lambda words: _BOOLEANS[words[0]],
            is_instance=lambda value: isinstance(value, bool),
            str_from_instance=lambda value: [str(value).lower()],
        )

    with registry:
        tyro.cli(
            config_class,
            default=shown,
            args=["--help"],
            prog=Path(sys.argv[0]).name,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
            use_underscores=True,
        )
    raise AssertionError("tyro exits after printing help")
