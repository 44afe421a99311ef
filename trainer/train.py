"""Train: one run from settings to a tracked, calibrated model.

`mlflow run . -e train -P loss=combined`, or `python -m trainer.train --preset goemotions-minilm --dataset FOLDER`.
"""

import sys
from collections.abc import Sequence

from trainer import launch
from trainer.config import TrainConfig, parse
from trainer.core import console
from trainer.core.errors import EmotionsError

__all__ = ["main", "train"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status of a training run: 0 when it has ended well, 1 on an error that the user can mend."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        config = parse(words)
        if not launch.in_worker():
            processes = launch.count_processes(config.run.processes)
            if processes > 1:
                return launch.run_workers("trainer.train", words, processes)
        train(config)
    except EmotionsError as error:
        console.make(quiet=False).show_error(error)  # on any process: it may be the only one that knows
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports Ctrl-C; the run is closed by now
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
