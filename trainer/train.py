"""Train: one run from settings to a tracked, calibrated model.

`mlflow run . -e train -P loss=combined`, or `python -m trainer.train --preset goemotions-minilm --dataset FOLDER`.
"""

from collections.abc import Sequence

from trainer.config import TrainConfig, parse
from trainer.core.errors import SettingsError
from trainer.launch import launcher
from trainer.reporting.command import run_cli
from trainer.tracking.run import report_failure

__all__ = ["cross_validate", "main", "train"]


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 after a complete run, 1 on an error that the user can fix."""
    return run_cli(_start, argv, report_failure)


def _start(argv: Sequence[str]) -> int:
    config = parse(argv)
    if config.data.folds and not config.data.fold:
        if launcher.in_worker():
            raise SettingsError(
                "`fold` must be given under a launcher such as torchrun: without it, this command starts "
                "a training per fold itself."
            )
        cross_validate(config)
        return 0
    if not launcher.in_worker():
        processes = launcher.count_processes(config.run.processes)
        if processes > 1:
            return launcher.run_workers("trainer.train", argv, processes)
    train(config)
    return 0


def train(config: TrainConfig) -> None:
    """Run every step; afterwards the results are in the run folder and on the tracking server."""
    from trainer import pipeline  # loads torch, and `--help` must not wait for it

    with pipeline.open_training(config) as run:
        dataset = run.load_data()
        components = run.build(dataset)
        run.print_plan(dataset, components)
        fitted = run.fit(dataset, components)
        predictions = run.predict(dataset, components, fitted)
        if run.context.is_main:  # no step below is shared, so the other processes may end
            evaluation = run.evaluate(predictions)
            run.save(dataset, components, fitted, evaluation, predictions)
            run.print_results(evaluation)


def cross_validate(config: TrainConfig) -> None:
    """Train every fold in a run of its own, one after another; a run above them has their results together."""
    from trainer import fold_training  # loads scipy and pyarrow, and `--help` must not wait for them

    with fold_training.open_cross_validation(config) as run:
        dataset, folds = run.load_data()
        run.print_plan(dataset, folds)
        run.train(folds)
        found = run.evaluate(folds)
        run.save(found, dataset)
        run.print_results(found)


if __name__ == "__main__":
    launcher.end_with(main)
