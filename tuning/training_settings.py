"""The settings of `train` that all trainings of a command share, and what training says about a space around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from trainer.config import PRESETS, TrainConfig, check_runnable, unread_settings
from trainer.core import presets, settings
from trainer.core.errors import SettingsError
from trainer.core.run_folder import RUNTIME_AND_DATASET
from trainer.data import sources
from trainer.evaluation import evaluation
from tuning.space.space import Space

__all__ = [
    "LEFT_TO_THE_SEARCH",
    "TrainingSettings",
    "check_given",
    "check_space",
    "effective_settings",
    "read_training_settings",
]

LEFT_TO_THE_SEARCH = {
    "best_metric": "`objective` chooses it",
    "read_test": "trials never read test, the winner does",
    "register": "promote registers the winner",
    "resume": "study=NAME continues a study",
    "retrain_from": "retrain_on_dev=true does that with the winner",
}
"""Settings of training that a search decides, each with the reason."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings that all trials share, and the facts of their data set."""

    given: Mapping[str, Any]
    """Those that the user gave."""
    values: Mapping[str, Any]
    """Every setting, resolved."""
    components: Mapping[str, str]
    """Every setting to the component of `TrainConfig` that has it."""
    presets: Mapping[str, Mapping[str, Any]]
    """Every shipped preset: name to settings."""
    data: Mapping[str, Any]
    """Facts of the data set, with its digests."""

    @classmethod
    def of(cls, config: TrainConfig, given: Mapping[str, Any], data: Mapping[str, Any]) -> "TrainingSettings":
        """Return the settings of a configuration."""
        parts = {part.name: getattr(config, part.name) for part in fields(config)}
        return cls(
            given=given,
            values=settings.flatten(config),
            components={name: part for part, values in parts.items() for name in settings.flatten(values)},
            presets={name: presets.load_preset(name, PRESETS) for name in presets.preset_names(PRESETS)},
            data=data,
        )


def read_training_settings(
    given: Mapping[str, Any], own: Mapping[str, Any], refused: Mapping[str, str] = LEFT_TO_THE_SEARCH
) -> TrainingSettings:
    """Resolve the given settings of training, and read the data set.

    own: settings that the command and training have under the same name, such as the seed; each training gets them
    anew. refused: settings that the command decides, each with the reason.
    Raises SettingsError for wrong settings and those that the command decides, DataError for bad data.
    """
    for name, reason in refused.items():
        if name in given:
            raise SettingsError(f"`{name}` must be left out here, got {settings.quote(given[name])}: {reason}.")
    config = settings.parse(TrainConfig, settings.as_argv({**given, **own}), PRESETS)
    if config.data.folds and not config.data.fold and "fold" not in refused:
        raise SettingsError(f"`fold` must be given with folds={config.data.folds} here: each training is one fold.")
    check_runnable(config)
    dataset = sources.load(config.data, seed=config.run.seed)  # now: bad data would fail every trial
    evaluation.check_dev(dataset.dev.labels, dataset.dev.observed, folds=config.evaluation.threshold_folds)
    return TrainingSettings.of(config, given, dataset.facts())


def effective_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide what a training results in, its data set apart: digests compare the examples."""
    unread = unread_settings(config)
    return {
        name: value
        for name, value in settings.flatten(config).items()
        if name not in unread and name not in RUNTIME_AND_DATASET
    }


def check_given(training: TrainingSettings, losses: Sequence[str], space: Space) -> None:
    """Raise SettingsError for a given setting that no training of the search reads."""
    varied = {one.name for one in space.dimensions}
    of_losses = [unread_settings(settings.from_flat(TrainConfig, {**training.values, "loss": loss})) for loss in losses]
    for name in training.given:
        reasons = [unread.get(name, "") for unread in of_losses]
        if all(reasons) and not {reason.partition("=")[0] for reason in reasons} & (varied - {"loss"}):
            raise SettingsError(f"`{name}` has no effect with {' or '.join(sorted(set(reasons)))}. Leave it out.")


def check_space(space: Space, training: TrainingSettings) -> None:
    """Raise SettingsError when training refuses an end or choice of a space, or its loss does not read it."""
    varied = {one.name for one in space.dimensions}
    for change in space.to_check():
        name = list(change)[-1]
        try:
            config = settings.from_flat(TrainConfig, {**training.values, **change}, origin="the space")
        except SettingsError as error:
            raise SettingsError(f"The space has a value that training refuses: {error}") from None
        unread = unread_settings(config)
        if name in varied and name in unread:
            decisive = unread[name].partition("=")[0]
            raise SettingsError(
                f"The space varies `{name}`, which has no effect with {unread[name]}. "
                f"Add `when: {{{decisive}: [...]}}` to {name}."
            )
