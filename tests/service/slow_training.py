"""Train with a pause in each step, so that a training of few examples lasts as long as an outage and needs no core.

`python -m tests.service.slow_training …` takes the arguments of `python -m trainer.train`.
"""

import os
import runpy
import sys
import time

__all__ = ["PAUSE", "slow_down", "slow_trials_down"]

PAUSE = "SLOW_TRAINING_SECONDS"
"""Environment variable with the seconds of the pause."""


def slow_down() -> None:
    """Make each step of a training in this process wait."""
    from trainer.fit.step import Stepper

    step, seconds = Stepper.step, float(os.environ[PAUSE])

    def slow(self, split, examples):
        time.sleep(seconds)
        return step(self, split, examples)

    Stepper.step = slow


def slow_trials_down() -> None:
    """Make the searches of this process start their trials by this module."""
    from tuning.execution import process

    process.TRAINING = __name__


if __name__ == "__main__":
    slow_down()
    sys.argv[0] = "trainer.train"
    runpy.run_module("trainer.train", run_name="__main__", alter_sys=True)
