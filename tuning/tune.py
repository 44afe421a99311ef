"""Tune: a search for good settings, as one MLflow run with a run per trial below it.

`mlflow run . -e tune -P trials=40 -P workers=4`, or `python -m tuning.tune --losses bce,asl --trials 40`.
"""

import sys
from collections.abc import Mapping, Sequence

from trainer.config import PRESETS, TrainConfig
from trainer.core import settings
from trainer.reporting.command import run_cli
from trainer.tracking.run import report_failure
from tuning.config import TuneConfig

__all__ = ["main", "tune"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of a search: 0 when it has ended well, 1 on an error that the user can mend."""
    return run_cli(_start, argv, report_failure)


def _start(words: Sequence[str]) -> None:
    config, rest = settings.parse_known(TuneConfig, words)
    of_training = settings.flatten(settings.parse(TrainConfig, rest, PRESETS, beside=TuneConfig))
    tune(config, {name: settings.show(of_training[name]) for name in settings.names_given(rest)})


def tune(config: TuneConfig, of_training: Mapping[str, str]) -> None:
    """Run every stage. of_training: settings of `train` that all trials share, as text."""
    from tuning.setup import open_search  # loads optuna, and `--help` must not wait for it

    with open_search(config, of_training) as stages:
        stages.announce()
        stages.explore()
        stages.conclude(stages.run_finals())


if __name__ == "__main__":
    sys.exit(main())
