"""Entry point `compare`: trains configurations on the same seeds, examples and steps, and tests their differences.

`mlflow run . -e compare -P configs=bce,asl,combined:0.7 -P seeds=5`, or `python -m tuning.compare --file plan.yaml`.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.config import PRESETS, TrainConfig
from trainer.core import settings
from trainer.core.errors import SettingsError
from trainer.reporting.command import run_cli
from trainer.tracking.run import report_failure
from tuning.comparison.config import CompareConfig
from tuning.comparison.configurations import Configurations, read_configs, read_plan_file

if TYPE_CHECKING:
    from tuning.execution.executor import Executor

__all__ = ["compare", "main"]

_EXAMPLE = "mlflow run . -e compare -P dataset=FOLDER -P configs=bce,asl,combined:0.7 -P seeds=5"


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status of a comparison: 0 when every training has a result, 1 otherwise."""
    return run_cli(_start, argv, report_failure)


def _start(argv: Sequence[str]) -> None:
    config, rest = settings.parse_known(CompareConfig, argv, example=_EXAMPLE)
    training = settings.flatten(settings.parse(TrainConfig, rest, PRESETS, other_class=CompareConfig))
    given = {name: training[name] for name in settings.names_given(rest)}
    if config.runs:
        _compare_finished(config, settings.names_given(rest))
        return
    configurations = read_plan_file(config.file) if config.file else read_configs(config.configs)
    compare(_with_plan(config, configurations, settings.names_given(argv)), configurations, given)


def _compare_finished(config: CompareConfig, given: Sequence[str]) -> None:
    if given:
        raise SettingsError(f"`{given[0]}` has no effect with `runs`, which trains nothing. Leave it out.")
    from trainer.reporting import console
    from tuning.comparison.pipeline import compare_finished

    compare_finished(config, console.make())


def compare(
    config: CompareConfig,
    configurations: Configurations,
    given: Mapping[str, Any],
    executor: "Executor | None" = None,
) -> None:
    """Run a comparison. given: settings of `train` that all trainings share. executor: runs the trainings."""
    from trainer.reporting import console  # these load optuna, and `--help` must not wait for it
    from tuning.comparison.pipeline import RunningComparison
    from tuning.comparison.setup import open_comparison
    from tuning.execution.executor import ProcessExecutor

    with open_comparison(config, configurations, given, executor or ProcessExecutor(), console.make()) as opened:
        comparison = RunningComparison(opened)
        comparison.print_plan()
        comparison.run_trainings()
        if not config.worker:
            comparison.conclude()


def _with_plan(config: CompareConfig, configurations: Configurations, given: Sequence[str]) -> CompareConfig:
    """Return the settings with those of the plan's file that the command line does not give."""
    of_file = {name: value for name, value in configurations.command.items() if name not in given}
    return settings.from_flat(CompareConfig, {**settings.flatten(config), **of_file}, origin="the plan")


if __name__ == "__main__":
    sys.exit(main())
