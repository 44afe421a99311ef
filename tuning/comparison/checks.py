"""Checks the configurations of a comparison with the rules of training, before anything is created."""

from collections.abc import Mapping
from typing import Any

from trainer.config import TrainConfig, check_read, check_runnable, unread_settings
from trainer.core import settings
from trainer.core.errors import SettingsError, shorten
from tuning.comparison.configurations import Configurations
from tuning.training_settings import TrainingSettings, effective_settings

__all__ = ["check_configurations"]

_OF_A_CONFIGURATION = ("max_length",)  # the one setting of `data` that changes neither texts nor labels
_SHARED_COMPONENTS = ("run", "data")
_OF_STEPS = ("epochs", "batch_size", "tokens_per_batch")


def check_configurations(configurations: Configurations, training: TrainingSettings) -> None:
    """Raise SettingsError for a configuration that training refuses or that cannot be compared fairly.

    A configuration must not change the examples and, unless the plan allows it, the number of steps; each setting
    must have an effect, and no two configurations may be the same.
    """
    configs = {name: _resolved(name, change, training) for name, change in configurations.changes.items()}
    if configurations.equal_steps:
        _check_steps(configs)
    _check_different(configs)
    _check_shared(configurations.changes, configs, training.given)


def _resolved(name: str, change: Mapping[str, Any], training: TrainingSettings) -> TrainConfig:
    for setting in change:
        if training.components.get(setting) in _SHARED_COMPONENTS and setting not in _OF_A_CONFIGURATION:
            raise SettingsError(
                f"`{setting}` must be the same in every configuration, so that their examples and seeds are, got "
                f"{settings.quote(change[setting])} in {shorten(name)}. Give it for all."
            )
    origin = f"configuration {shorten(name)}"
    config = settings.from_flat(TrainConfig, {**training.values, **change}, origin=origin)
    check_read(config, change, f" in {origin}")
    check_runnable(config)
    return config


def _check_steps(configs: Mapping[str, TrainConfig]) -> None:
    first, *others = configs
    for name in others:
        for setting in _OF_STEPS:
            values = [getattr(configs[one].fit, setting) for one in (first, name)]
            if values[0] != values[1]:
                raise SettingsError(
                    f"`{setting}` must be the same in every configuration, so that all train for equally many steps, "
                    f"got {values[0]} in {shorten(first)} and {values[1]} in {shorten(name)}. `equal_steps: false` in "
                    "the plan allows it."
                )


def _check_different(configs: Mapping[str, TrainConfig]) -> None:
    known: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        values = effective_settings(config)
        for other, same in known.items():
            if same == values:
                raise SettingsError(
                    f"Configurations must differ, but {shorten(name)} trains with the settings of {shorten(other)}."
                )
        known[name] = values


def _check_shared(
    changes: Mapping[str, Mapping[str, Any]], configs: Mapping[str, TrainConfig], given: Mapping[str, Any]
) -> None:
    """Raise SettingsError for a shared setting that no configuration reads."""
    for setting in given:
        reasons = [
            "every configuration with its own value"
            if setting in changes[name]
            else unread_settings(config).get(setting)
            for name, config in configs.items()
        ]
        if all(reasons):
            shown = shorten(" or ".join(sorted({reason for reason in reasons if reason})))
            raise SettingsError(f"`{setting}` has no effect with {shown}. Leave it out.")
