"""Evaluate: score a model, or predictions from elsewhere, on a split of any data set.

`mlflow run . -e evaluate -P dataset=FOLDER -P split=test`, or `python -m trainer.evaluate --dataset FOLDER`.
"""

import sys
from collections.abc import Sequence

from trainer.core import settings
from trainer.evaluating.config import EvaluateConfig
from trainer.reporting.command import run_cli
from trainer.tracking.run import report_failure

__all__ = ["evaluate", "main"]

_EXAMPLE = "mlflow run . -e evaluate -P model=models:/emotions@champion -P dataset=FOLDER -P split=test"


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 after a complete evaluation, 1 on an error that the user can fix."""
    return run_cli(
        lambda arguments: evaluate(settings.parse(EvaluateConfig, arguments, example=_EXAMPLE)), argv, report_failure
    )


def evaluate(config: EvaluateConfig) -> None:
    """Run every step; afterwards the results are in the run folder and on the tracking server."""
    from trainer.evaluating import pipeline  # loads torch, and `--help` must not wait for it

    with pipeline.open_evaluation(config) as run:
        data = run.load_data()
        with run.open_systems(data) as systems:
            selection = run.select(data, systems)
            judged = [run.judge(data, selection, system) for system in systems]
        evaluation = run.measure(data, selection, judged[0])
        comparison = run.compare(data, selection, judged)
        warnings = run.save(data, selection, judged, evaluation, comparison)
        run.print_results(evaluation, comparison, warnings)


if __name__ == "__main__":
    sys.exit(main())
