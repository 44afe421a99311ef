"""Settings: dataclasses to and from a command line and JSON, by one list of flat names.

A configuration is a frozen dataclass whose fields are component dataclasses. The fields of all components have unique
names, so `mlflow run -P name=value` reaches every one. Order: field default < preset < flag.
"""

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from trainer.core.errors import SettingsError, nearest, shorten
from trainer.core.presets import load_preset, upgrade
from trainer.core.redaction import redact

__all__ = [
    "Scalar",
    "Text",
    "as_argv",
    "flatten",
    "from_flat",
    "names_given",
    "parse",
    "parse_known",
    "quote",
    "require",
    "require_count",
    "show",
]

Config = TypeVar("Config")
Scalar = bool | int | float | str


class Text(str):
    """Free text, such as a reason, which may mention a password or token: each is replaced by `***`."""

    __slots__ = ()

    def __new__(cls, value: str = "") -> "Text":
        """Return the text without secrets."""
        return super().__new__(cls, redact(value))


_BOOLEANS = {"true": True, "false": False}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Text: "text"}
_INTEGERS = range(-(2**63), 2**63)
_MAX_DIGITS = 20
_MAX_CHARACTERS = 4096  # of the longest path on Linux

_OTHER_NAMES = {
    "batch": "batch_size",
    "bs": "batch_size",
    "data": "dataset",
    "data_dir": "dataset",
    "dataset_name": "dataset",
    "early_stopping_patience": "patience",
    "fp16": "precision",
    "bf16": "precision",
    "lr": "learning_rate",
    "lr_scheduler_type": "schedule",
    "max_len": "max_length",
    "max_seq_length": "max_length",
    "metric_for_best_model": "best_metric",
    "model_name_or_path": "model",
    "n_trials": "trials",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "output_dir": "output",
    "per_device_train_batch_size": "micro_batch_size",
    "resume_from_checkpoint": "resume",
    "study_name": "study",
}
"""Names of Hugging Face, Optuna and other programs, and ours, which an error offers."""


def parse(
    config_class: type[Config],
    argv: Sequence[str],
    preset_folder: Path | None = None,
    *,
    other_class: Any = None,
    example: str = "",
) -> Config:
    """Return the configuration of a command line of `--name value` or `--name=value` arguments.

    preset_folder: the folder of the presets, for a configuration that has the setting `preset`.
    other_class: another configuration of the same command, whose names an error may offer too.
    example: a command, which ends the help.
    Raises SettingsError for an unknown name, a name given twice, a missing value, a value of the wrong type or out of
    range, and a preset that cannot be read. Exits with status 0 after `--help`, which shows the preset's defaults.
    """
    config, rest = parse_known(config_class, argv, preset_folder, example=example)
    if rest:
        raise SettingsError(_unknown(rest[0], [*_hints(config_class), *(_hints(other_class) if other_class else ())]))
    return config


def parse_known(
    config_class: type[Config], argv: Sequence[str], preset_folder: Path | None = None, *, example: str = ""
) -> tuple[Config, list[str]]:
    """Return the configuration of a command line, and the arguments that it does not know."""
    argv = _without_none(argv)
    repeated = [name for name, count in Counter(names_given(argv)).items() if count > 1]
    if repeated:
        raise SettingsError(f"`{shorten(repeated[0])}` must be given once, got it twice.")
    default = config_class()
    if preset_folder is not None:
        # First the preset alone, whose values are the defaults of the second pass; `--help` waits for these.
        chosen, _ = _run_tyro(_PresetOnly, argv, _PresetOnly(preset=flatten(default)["preset"]), add_help=False)
        values = {**load_preset(chosen.preset, preset_folder), "preset": chosen.preset}
        # Without the checks: a flag may complete what the preset leaves contradictory.
        default = _build(config_class, _typed(config_class, values, f"preset {shorten(chosen.preset)}"), _new_unchecked)
    try:
        config, rest = _run_tyro(config_class, argv, default)
    except SystemExit:  # after the help
        if example:
            print(f"\nExample:  {example}")
        raise
    return from_flat(config_class, flatten(config)), rest  # checks what tyro accepts: empty text


def names_given(argv: Sequence[str]) -> list[str]:
    """Return the names of the settings in a command line, in its order."""
    return [one[2:].partition("=")[0].replace("-", "_") for one in _without_none(argv) if one.startswith("--")]


def as_argv(values: Mapping[str, Scalar]) -> list[str]:
    """Return the command line that gives settings these values."""
    return [f"--{name}={show(value)}" for name, value in values.items()]


def flatten(config: Any) -> dict[str, Any]:
    """Return every setting of a configuration by its flat name, in declaration order."""
    flat: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        flat |= flatten(value) if is_dataclass(value) else {field.name: value}
    return flat


def from_flat(config_class: type[Config], values: Mapping[str, Any], *, origin: str = "") -> Config:
    """Return the configuration with these settings, the inverse of `flatten`; absent settings keep their defaults.

    `origin` names the source of the values in errors. Raises SettingsError for unknown names and wrong values.
    """
    config: Config = _build(config_class, _typed(config_class, values, origin))
    return config


def require(name: str, value: object, holds: bool, rule: str) -> None:
    """Raise SettingsError with the setting, its rule and its value unless the rule holds."""
    if not holds:
        raise SettingsError(f"`{name}` must {rule}, got {quote(value)}.")


def require_count(name: str, value: str, most: int) -> None:
    """Raise SettingsError unless the value is `auto` or a number from 1 to `most`."""
    is_count = value.isdecimal() and len(value) <= _MAX_DIGITS and 1 <= int(value) <= most
    require(name, value, value == "auto" or is_count, f"be `auto` or a number from 1 to {most}")


def quote(value: object) -> str:
    """Return a value for a message: as a user types it, shortened."""
    return shlex.quote(shorten(show(value)))


def show(value: object) -> str:
    """Return a value as a user types it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list | tuple):  # of a file
        return json.dumps(value, ensure_ascii=False, default=str)
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _without_none(argv: Sequence[str]) -> list[str]:
    """Return the arguments without those whose value is None: MLflow's Python API spells a setting not given so."""
    kept: list[str] = []
    for argument in argv:
        if argument == "None" and kept and kept[-1].startswith("--") and "=" not in kept[-1]:
            kept.pop()
        elif not (argument.startswith("--") and argument.endswith("=None")):
            kept.append(argument)
    return kept


def _hints(config_class: Any) -> dict[str, Any]:
    """Return the declared type of each setting by its flat name."""
    hints: dict[str, Any] = {}
    for name, hint in get_type_hints(config_class).items():
        hints |= _hints(hint) if is_dataclass(hint) else {name: hint}
    return hints


def _build(config_class: Any, values: Mapping[str, Any], new: Callable[..., Any] | None = None) -> Any:
    arguments: dict[str, Any] = {}
    for name, hint in get_type_hints(config_class).items():
        if is_dataclass(hint):
            arguments[name] = _build(hint, values, new)
        elif name in values:
            arguments[name] = values[name]
    return new(config_class, arguments) if new else config_class(**arguments)


def _new_unchecked(config_class: Any, arguments: Mapping[str, Any]) -> Any:
    config = object.__new__(config_class)
    vars(config).update(vars(config_class()) | arguments)
    return config


def _typed(config_class: Any, values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    hints, defaults = _hints(config_class), flatten(config_class())
    typed = {}
    for name, value in values.items():
        if name not in hints:
            raise SettingsError(_unknown(name, hints, origin))
        if value == "" != defaults[name]:  # empty text is a value only where it is the default
            raise SettingsError(_wrong_value(name, hints[name], "", origin))
        typed[name] = _check_type(name, hints[name], value, origin)
    return typed


def _check_type(name: str, hint: Any, value: Any, origin: str) -> Any:
    """Return the value in its declared type. YAML reads `1e-4` as text, so text that spells a float is taken as one."""
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
    elif hint is float and not isinstance(value, bool):
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    elif hint is Text and isinstance(value, str) and not _fault(text := Text(value)):
        return text
    elif hint is int and isinstance(value, float) and value.is_integer() and not _fault(int(value)):
        return int(value)  # `batch_size: 16.0`
    elif type(value) is hint and not _fault(value):  # not isinstance: True is an int
        return value
    raise SettingsError(_wrong_value(name, hint, show(value), origin))


def _fault(value: object) -> str:
    """Return the rule that a value of the right type breaks: text that no file could contain, a number of no use."""
    if isinstance(value, str):
        if len(value) > _MAX_CHARACTERS:
            return f"have at most {_MAX_CHARACTERS:,} characters"
        if "\0" in value or not _is_unicode(value):
            return "be text in Unicode (UTF-8)"
        if redact(value) != value:  # commands, logs and runs show every setting
            return "not contain a password or token, which belong into environment variables"
    return "" if not isinstance(value, int) or value in _INTEGERS else "be below 2^63"


def _is_unicode(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # bytes of an argument that are not UTF-8
        return False
    return True


def _wrong_value(name: str, hint: Any, text: str, origin: str = "") -> str:
    where = f" in {origin}" if origin else ""
    if not text:
        return f"`{name}` must not be empty{where}. Leave it out for the default."
    if get_origin(hint) is Literal:
        choices, renamed = get_args(hint), upgrade({name: text}).get(name, text)
        advice = nearest(text, choices) if renamed == text else f" It is called {renamed} now."
        return f"`{name}` must be one of {', '.join(choices)}, got {quote(text)}{where}.{advice}"
    rule = f"be {_KINDS[hint]}"
    if issubclass(hint, str):
        rule = _fault(hint(text)) or rule
    elif hint is int and text.lstrip("-").isdecimal():
        rule = "be below 2^63"
    return f"`{name}` must {rule}, got {quote(redact(text))}{where}."


def _unknown(argument: str, names: Iterable[str], origin: str = "") -> str:
    """Return the error about an argument, or a name in a file, that is no setting."""
    if not origin and not argument.startswith("--"):
        return f"Arguments must have the form `--name value`, got {quote(argument)}."
    where = f" in {origin}" if origin else ""
    name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
    offered = [*names, "help"]
    other = _OTHER_NAMES.get(name)
    hint = f" Did you mean `{other}`?" if other in offered else nearest(name, offered)
    return f"`{shorten(name)}` is not a setting{where}.{hint or ' `--help` lists the settings.'}"


@dataclass(frozen=True, kw_only=True)
class _PresetOnly:
    preset: str


def _run_tyro(
    config_class: type[Config], argv: Sequence[str], default: Config, *, add_help: bool = True
) -> tuple[Config, list[str]]:
    """Return the configuration of a command line over `default`, and the arguments that are not its settings."""
    import tyro

    # Private in tyro, whose version conda.yaml pins: there is no public way to the argument behind an error.
    from tyro._errors import BadValue, InstantiationFailure, InvalidChoice, ParseErrorEvent, on_parse_error

    def raise_ours(event: ParseErrorEvent) -> None:
        if isinstance(event, InvalidChoice | InstantiationFailure | BadValue) and event.argument is not None:
            name, hint = event.argument.field.intern_name, event.argument.field.type_stripped
            if isinstance(event, BadValue):
                raise SettingsError(f"`{name}` needs a value. One that begins with `-` is written --{name}=VALUE.")
            text = event.value if isinstance(event, InvalidChoice) else event.message
            raise SettingsError(_wrong_value(name, hint, text))

    with on_parse_error(raise_ours), _joined_help_lines():
        return tyro.cli(
            config_class,
            default=default,
            args=argv,
            prog=_program(),
            add_help=add_help,
            return_unknown_args=True,
            # Every flag has a value, also a bool, because MLproject can pass `--name {name}` and no bare flag.
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagConversionOff),
            use_underscores=True,
            registry=_readers(),
        )


@contextmanager
def _joined_help_lines() -> Iterator[None]:
    """Join the lines of each help text in the block: tyro wraps them, but keeps the line breaks of the source."""
    from tyro import _docstrings

    read = _docstrings.get_field_docstring
    _docstrings.get_field_docstring = lambda *field: " ".join((read(*field) or "").split()) or None
    try:
        yield
    finally:
        _docstrings.get_field_docstring = read


def _program() -> str:
    """Return the command that started this process, such as `python -m trainer.train`."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {module.name}" if module else Path(sys.argv[0]).name


def _readers() -> Any:
    """Return the tyro rules by which text becomes a value; a ValueError carries the text itself."""
    import tyro

    registry = tyro.constructors.ConstructorRegistry()

    # tyro reads True and False; `-P`, YAML and JSON spell true and false.
    @registry.primitive_rule
    def read(info: tyro.constructors.PrimitiveTypeInfo) -> "tyro.constructors.PrimitiveConstructorSpec[Any] | None":
        if info.type not in _KINDS:
            return None
        metavar = "{true,false}" if info.type is bool else info.type.__name__.upper()
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda texts: _read(info.type, texts[0]),
            is_instance=lambda value: isinstance(value, info.type),
            str_from_instance=lambda value: [show(value)],
        )

    return registry


def _read(kind: type, text: str) -> Any:
    try:
        if kind is bool:
            return _BOOLEANS[text.lower()]  # MLflow's Python API spells True
        if kind is int and "." in text and (number := float(text)).is_integer():
            return int(number)  # hyperopt's integers are 16.0
        value = kind(text)
    except (KeyError, ValueError):
        raise ValueError(text) from None
    if _fault(value):
        raise ValueError(text)
    return value
