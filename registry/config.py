"""Settings of promote, rollback, history and serve."""

import re
from dataclasses import dataclass, field

from trainer.core.artifacts import REGISTERED_MODEL
from trainer.core.model_names import check_model_name
from trainer.core.settings import Text, require

__all__ = ["GateConfig", "HistoryConfig", "PromoteConfig", "RollbackConfig", "ServeConfig", "ServerConfig"]

_LONGEST_REASON = 500  # a tag of the run contains it
_ALIAS = re.compile(r"[\w-]{1,255}", re.ASCII)
_PRECISIONS = ("fp32", "bf16", "int8")  # of trainer.model.optimizations.quantization, which loads torch
_MOST_SEEDS = 1000
_LAST_PORT, _HOUR, _MOST_MB = 65535, 3600, 10_000


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The registered model, and the folder of this command's run."""

    registered_model: str = REGISTERED_MODEL
    """Registered model whose champion is decided about."""
    output: str = "runs"
    """Folder for the folder of this command's own run, relative to the current folder."""

    def __post_init__(self) -> None:
        check_model_name(self.registered_model)


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """Choice of the candidate, and what follows from the decision."""

    run_id: str = ""
    """Run to promote; empty: the finished run of `experiment` with the highest dev/final/macro_f1, among the runs with
    the champion's dev and test examples where there is a champion."""
    experiment: str = ""
    """Experiment to choose from; empty: the experiment of this command's own run."""
    dry_run: bool = False
    """Judge and report without changing the registry."""
    exit_code: bool = False
    """Exit with status 2 when the candidate is refused; otherwise every decision exits with 0."""


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Check of the saved model in a process without secrets, and its limits."""

    check_rows: int = 256
    """Examples of test, evenly spaced, that the saved model scores again; 0 = all."""
    max_score_difference: float = 1e-4
    """Largest difference from the probabilities that the run saved."""
    max_latency_ms: float = 500.0
    """Milliseconds in which the model answers 95 % of single texts, on this machine."""
    max_size_mb: float = 2000.0
    """Size of the model's files, in 10^6 bytes."""
    allow_foreign_code: bool = False
    """Load the model with MLflow and accept code in it that this project did not write. The code runs as your user,
    with your files and network, but without the secrets in the environment."""

    def __post_init__(self) -> None:
        require("check_rows", self.check_rows, 0 <= self.check_rows <= 10**9, "be in [0, 10^9]; 0 is all")
        difference = self.max_score_difference
        require("max_score_difference", difference, 0 < difference <= 1, "be above 0 and at most 1")
        for name in ("max_latency_ms", "max_size_mb"):
            require(name, getattr(self, name), getattr(self, name) > 0, "be above 0")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Limits on the scores of a candidate, on the test examples of the champion."""

    min_gain: float = 0.0
    """The lower end of the 95 % interval of the gain in macro-F1 must be above this."""
    max_label_drop: float = 0.1
    """Largest drop in F1 of a label with at least 40 test positives: a label fails when the whole 95 % interval of its
    difference lies below minus this."""
    max_ece_increase: float = 0.01
    """Largest increase of the calibration error (ECE of the probabilities above 0.1): a candidate fails when the whole
    95 % interval of the increase lies above this."""
    floor_macro_f1: float = 0.3
    """First champion: the lower end of the 95 % interval of macro-F1 must be above this, and above the macro-F1 of a
    model that predicts every label for every text."""
    ceiling_ece: float = 0.05
    """First champion: highest calibration error (ECE of the probabilities above 0.1); it fails when the whole 95 %
    interval lies above this, or when no probability is above 0.1."""
    min_seeds: int = 1
    """Training seeds with which the candidate's settings must win: above 1, the finished runs with these settings and
    examples are compared with the champion too, over seeds and examples. Those of the champion's settings are its
    counterpart where as many seeds are common to both, otherwise its one model."""
    bootstrap_resamples: int = 2000
    """Resamples of the test examples behind each interval."""

    def __post_init__(self) -> None:
        require("min_gain", self.min_gain, -1 <= self.min_gain < 1, "be in [-1, 1)")
        for name in ("max_label_drop", "max_ece_increase", "floor_macro_f1", "ceiling_ece"):
            value = getattr(self, name)
            require(name, value, 0 <= value <= 1, "be in [0, 1]")
        require("min_seeds", self.min_seeds, 1 <= self.min_seeds <= _MOST_SEEDS, f"be in [1, {_MOST_SEEDS}]")
        count = self.bootstrap_resamples
        require("bootstrap_resamples", count, 100 <= count <= 100_000, "be in [100, 100000]")


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Promote the best run, or the given one, to champion if it passes the gate; every decision is recorded."""

    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    server: ServerConfig = field(default_factory=ServerConfig)


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """Target of a rollback."""

    version: int = 0
    """Version that becomes champion; 0 = the champion before the present one."""
    reason: Text = field(default_factory=Text)
    """Reason for the decision log; at most 500 characters. Passwords and tokens in it are not kept."""

    def __post_init__(self) -> None:
        require("version", self.version, 0 <= self.version < 2**31, "be in [0, 2^31); 0 is the champion before")
        short = len(self.reason) <= _LONGEST_REASON
        require("reason", self.reason, short, f"have at most {_LONGEST_REASON} characters")


@dataclass(frozen=True, kw_only=True)
class RollbackConfig:
    """Return to an earlier champion; the decision is recorded."""

    target: TargetConfig = field(default_factory=TargetConfig)
    check: CheckConfig = field(default_factory=CheckConfig)
    server: ServerConfig = field(default_factory=ServerConfig)


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """Print all decisions about the champion; change nothing."""

    registered_model: str = REGISTERED_MODEL
    """Registered model whose champions are listed."""

    def __post_init__(self) -> None:
        check_model_name(self.registered_model)


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serve the champion over HTTP by MLflow's scoring protocol; when the alias moves, the new version replaces it.

    No code of the model runs. The secret of the tracking server's webhook, if there is one, is in the environment
    variable SERVE_WEBHOOK_SECRET.
    """

    registered_model: str = REGISTERED_MODEL
    """Registered model to serve."""
    alias: str = "champion"
    """Alias of the version to serve."""
    host: str = "127.0.0.1"
    """Address to listen on. There is no TLS: on other addresses than loopback, put a proxy in front."""
    port: int = 5001
    """Port to listen on."""
    login: bool = False
    """Answer only requests to score that have user and password of an account on the tracking server."""
    poll_seconds: float = 20.0
    """Seconds after which the alias is read again; a webhook of the tracking server tells it sooner."""
    precision: str = "fp32"
    """Precision of the model: fp32, bf16, or int8, which is faster on a CPU and changes the probabilities slightly."""
    timeout_seconds: float = 60.0
    """Longest time that a request may take."""
    max_body_mb: int = 8
    """Largest body of a request, in 10^6 bytes."""

    def __post_init__(self) -> None:
        check_model_name(self.registered_model)
        require("alias", self.alias, _ALIAS.fullmatch(self.alias) is not None, "be letters, digits, '_' and '-'")
        require("port", self.port, 1 <= self.port <= _LAST_PORT, f"be in [1, {_LAST_PORT}]")
        require("poll_seconds", self.poll_seconds, 1 <= self.poll_seconds <= _HOUR, f"be in [1, {_HOUR}]")
        require("precision", self.precision, self.precision in _PRECISIONS, f"be one of {', '.join(_PRECISIONS)}")
        require("timeout_seconds", self.timeout_seconds, 0 < self.timeout_seconds <= _HOUR, f"be in (0, {_HOUR}]")
        require("max_body_mb", self.max_body_mb, 1 <= self.max_body_mb <= _MOST_MB, f"be in [1, {_MOST_MB}]")
