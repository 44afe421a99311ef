"""Train: one run from settings to a tracked, calibrated model.

`mlflow run . -e train -P loss=combined`, or `python -m trainer.train --preset goemotions-minilm --dataset FOLDER`.
"""

from collections.abc import Sequence

from trainer import launch
from trainer.config import TrainConfig, parse
from trainer.core.command import exit_status

__all__ = ["main", "train"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of a training run: 0 when it has ended well, 1 on an error that the user can mend."""
    return exit_status(_start, argv)


def _start(words: Sequence[str]) -> int:
    config = parse(words)
    if not launch.in_worker():
        processes = launch.count_processes(config.run.processes)
        if processes > 1:
            return launch.run_workers("trainer.train", words, processes)
    train(config)
    return 0


def train(config: TrainConfig) -> None:
    """Run every stage; results are in the run folder and on the tracking server afterwards."""
    from trainer import stages  # loads torch, and `--help` must not wait for it

    with stages.open_training(config) as run:
        dataset = run.load_data()
        workshop = run.build(dataset)
        run.announce(dataset, workshop)
        fitted = run.fit(dataset, workshop)
        splits = run.predict(dataset, workshop, fitted)
        if run.session.is_main:
            outcome = run.assess(dataset, splits)
            run.keep(dataset, workshop, fitted, outcome, splits)
            run.show(outcome)


if __name__ == "__main__":
    launch.end_with(main)
