"""Settings of the registry's commands."""

import re
from dataclasses import dataclass, field

from trainer.core.artifacts import REGISTERED_MODEL
from trainer.core.errors import SettingsError
from trainer.core.settings import require

__all__ = ["LEDGER_SUFFIX", "GateConfig", "HistoryConfig", "PromoteConfig", "RollbackConfig", "ServerConfig"]

LEDGER_SUFFIX = "-ledger"
_LONGEST_REASON = 500
_NAME = re.compile(r"[\w. -]{1,200}")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Which registered model, and where its runs are."""

    registered_model: str = REGISTERED_MODEL
    """Registered model whose champion is meant."""
    output: str = "runs"
    """Folder for the folder of this command's own run, relative to the current folder."""

    def __post_init__(self) -> None:
        _check_name(self.registered_model)


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """Which run is the candidate."""

    run_id: str = ""
    """Run to promote; not given: the finished run of `experiment` with the highest dev/macro_f1, on the champion's test
    rows where there is a champion."""
    experiment: str = ""
    """Name of the experiment to choose from; not given: the one that this command's own run is in."""
    dry_run: bool = False
    """Judge and report, and change nothing in the registry."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """What a model must be able to do before it is compared."""

    check_rows: int = 0
    """Rows of test, evenly spaced, that the saved model scores again; 0 = all."""
    max_score_difference: float = 1e-4
    """Largest difference from the probabilities that the run has saved."""
    max_latency_ms: float = 500.0
    """Milliseconds in which the model answers 19 of 20 single texts, on this machine."""
    max_size_mb: float = 2000.0
    """Size of the model's files, in 10^6 bytes."""

    def __post_init__(self) -> None:
        require("check_rows", self.check_rows, self.check_rows >= 0, "be 0 (all) or more")
        difference = self.max_score_difference
        require("max_score_difference", difference, 0 < difference <= 1, "be above 0 and at most 1")
        for name in ("max_latency_ms", "max_size_mb"):
            require(name, getattr(self, name), getattr(self, name) > 0, "be above 0")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What a candidate must show on the test rows of the champion."""

    min_gain: float = 0.0
    """The lower end of the 95 % interval of the gain in macro-F1 must be above this."""
    max_label_drop: float = 0.1
    """Most that F1 may fall for a label with at least 40 positives on test."""
    max_ece_increase: float = 0.01
    """Most that the calibration error (ECE) may rise."""
    floor_macro_f1: float = 0.3
    """First champion: the lower end of the 95 % interval of macro-F1 must be above this, and above that of a model
    that gives every label to every text."""
    ceiling_ece: float = 0.05
    """First champion: highest calibration error (ECE)."""
    bootstrap_resamples: int = 2000
    """Resamples of the test rows behind each interval."""

    def __post_init__(self) -> None:
        require("min_gain", self.min_gain, -1 <= self.min_gain < 1, "be in [-1, 1)")
        for name in ("max_label_drop", "max_ece_increase", "floor_macro_f1", "ceiling_ece"):
            value = getattr(self, name)
            require(name, value, 0 <= value <= 1, "be in [0, 1]")
        count = self.bootstrap_resamples
        require("bootstrap_resamples", count, 100 <= count <= 100_000, "be in [100, 100000]")


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Every setting of `promote`."""

    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    server: ServerConfig = field(default_factory=ServerConfig)


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """Where a rollback goes."""

    version: int = 0
    """Version that becomes champion; 0 = the champion before the present one."""
    reason: str = ""
    """Why, in your own words, for the ledger; at most 500 characters."""

    def __post_init__(self) -> None:
        require("version", self.version, self.version >= 0, "be a version, or 0 for the champion before")
        if len(self.reason) > _LONGEST_REASON:
            raise SettingsError(
                f"reason must have at most {_LONGEST_REASON} characters, but got {len(self.reason)=}. Shorten it."
            )


@dataclass(frozen=True, kw_only=True)
class RollbackConfig:
    """Every setting of `rollback`."""

    target: TargetConfig = field(default_factory=TargetConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    server: ServerConfig = field(default_factory=ServerConfig)


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """Every setting of `history`."""

    registered_model: str = REGISTERED_MODEL
    """Registered model whose champions are listed."""

    def __post_init__(self) -> None:
        _check_name(self.registered_model)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.endswith(LEDGER_SUFFIX):
        raise SettingsError(
            f"registered_model must be letters, digits, '_', '-', '.' and spaces, and not the name of a ledger "
            f"(...{LEDGER_SUFFIX}), but got registered_model={name!r}."
        )
