"""Entry point `tune`: searches settings, as one MLflow run with a nested run for each trial.

`mlflow run . -e tune -P trials=40 -P workers=4`, or `python -m tuning.tune --losses bce,asl --trials 40`.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.config import PRESETS, TrainConfig
from trainer.core import settings
from trainer.reporting.command import run_cli
from trainer.tracking.run import report_failure
from tuning.config import TuneConfig

if TYPE_CHECKING:
    from tuning.execution.executor import Executor

__all__ = ["main", "tune"]

_EXAMPLE = "mlflow run . -e tune -P dataset=FOLDER -P losses=bce,asl -P trials=40 -P workers=4"


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status of a search: 0 when it has ended well, 1 on an error that the user can fix."""
    return run_cli(_start, argv, report_failure)


def _start(argv: Sequence[str]) -> None:
    config, rest = settings.parse_known(TuneConfig, argv, example=_EXAMPLE)
    training = settings.flatten(settings.parse(TrainConfig, rest, PRESETS, other_class=TuneConfig))
    tune(config, {name: training[name] for name in settings.names_given(rest)})


def tune(config: TuneConfig, given: Mapping[str, Any], executor: "Executor | None" = None) -> None:
    """Run a search. given: settings of `train` that all trials share. executor: runs the trainings."""
    from trainer.reporting import console  # these load optuna, and `--help` must not wait for it
    from tuning.execution.executor import ProcessExecutor
    from tuning.pipeline import Search
    from tuning.setup import open_search

    with open_search(config, given, executor or ProcessExecutor(), console.make()) as opened:
        search = Search(opened)
        search.print_plan()
        search.run_trials()
        if config.study.worker:
            search.help_with_finals()
        else:
            search.conclude(search.run_finals())


if __name__ == "__main__":
    sys.exit(main())
