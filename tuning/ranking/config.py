"""The settings of a leaderboard."""

from dataclasses import dataclass
from typing import Literal

from trainer.core.settings import require

__all__ = ["LeaderboardConfig"]

_MOST_LISTED = 1000


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig:
    """List the finished training runs of an experiment by their score on dev, with intervals. Changes no run."""

    experiment: str = ""
    """Experiment whose runs are listed; empty: the experiment of this command's own run."""
    top: int = 20
    """Runs listed of each data set. Their predictions are downloaded once, for the intervals."""
    metric: Literal["macro_f1", "micro_f1", "macro_ap"] = "macro_f1"
    """Score on dev that ranks the runs; F1 has intervals. The score on test stands beside it and ranks nothing."""
    bootstrap_resamples: int = 1000
    """Resamples of the dev examples behind intervals and ties."""
    output: str = "runs"
    """Folder for the folder of this command's own run, relative to the current folder; runs in it need no download."""

    def __post_init__(self) -> None:
        require("top", self.top, 1 <= self.top <= _MOST_LISTED, f"be in [1, {_MOST_LISTED}]")
        count = self.bootstrap_resamples
        require("bootstrap_resamples", count, 100 <= count <= 100_000, "be in [100, 100000]")
