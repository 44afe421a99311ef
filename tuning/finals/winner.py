"""The end of a search: the winner's model reads test, is trained on train and dev where asked, and is the candidate."""

import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from trainer.core import artifacts, signals
from trainer.core.errors import TuningError
from trainer.core.run_folder import has_results
from tuning.drivers import BEAT_SECONDS
from tuning.execution.process import STOP_SECONDS, Share
from tuning.execution.runs import Runs
from tuning.execution.training import Order, Training, Turn
from tuning.finals.statistics import FinalRun, rank
from tuning.study.trials import settings

__all__ = ["Finish", "Winner", "complete"]

_MADE = "winners"
"""Study attribute: the runs made for winners, by what each is made from."""
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Winner:
    """The settings that were best over the seeds, and the model that stands for them."""

    setting: int
    """Number of its trial in the search."""
    seed: int
    run_id: str
    settings: Mapping[str, Any]
    """What differs from the study's own."""
    scores: Mapping[str, float]
    """All scores of the model, those on test included."""


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How the last trainings of a search run."""

    words: Sequence[str]
    """Command line of `train`, which reads test."""
    output: Path
    share: Share
    runs: Runs
    on_beat: Callable[[], None]
    """Called every few seconds meanwhile."""

    def train(self, words: Sequence[str], changes: Mapping[str, Any], run_id: str) -> Order:
        """Run a training to its end, unless it has its results; a stop ends it too.

        words: more of the command line. Raises TuningError when the training does not end well.
        """
        order = Order((*self.words, *words), changes, self.output / run_id)
        turn = Turn(order)
        while not has_results(order.folder, with_test=True) and not turn.has_come:
            self.on_beat()
            time.sleep(_LOOK_SECONDS)
        if not has_results(order.folder, with_test=True):
            self._run(order)
        if misuse := order.misuse():
            raise TuningError(f"training must use what it is given, but got {misuse} in run {run_id}.")
        return order

    def _run(self, order: Order) -> None:
        training = Training(order, self.share)
        try:
            while training.status is None:
                self.on_beat()
                training.wait(BEAT_SECONDS)
        except BaseException:
            training.ask_to_stop()
            with signals.signal_handlers(
                signal.SIG_IGN, signal.SIGTERM, signal.SIGINT
            ):  # a second one must leave nothing
                training.wait(STOP_SECONDS)
                training.clean_up()
                training.wait()
                self.runs.close(order.folder, "KILLED", {})
            raise
        training.clean_up()
        self.runs.close(order.folder, "FAILED" if training.status else "FINISHED", {})
        if training.status or not has_results(order.folder, with_test=True):
            raise TuningError(
                f"winner's training must end well, but got run {order.folder.name}: {training.cause()}. "
                "Mend that, and give the same command again."
            )


def complete(finished: Sequence[FinalRun], study: optuna.Study, finish: Finish, *, retrain: bool) -> Winner:
    """The winner with its model, which alone reads test. Of its seeds the one with the best dev score stands for it.

    retrain: train once more, on train and dev. Raises TuningError when no final has a score or a training fails.
    """
    first = rank(finished)[0]
    of_first = [one for one in finished if one.setting == first.setting and one.score is not None]
    if not of_first:
        raise TuningError(
            "finals must have a score, but got none: every training failed. See their logs, and give the same command "
            "again: it trains them once more."
        )
    best = max(of_first, key=lambda one: (one.score or 0.0, -one.seed))
    found = settings(study, first.setting)
    changes, tags = {**found, "seed": best.seed}, {artifacts.TAG_STUDY: study.study_name}
    run_id = best.run_id
    if not (finish.output / run_id).is_dir():  # it was trained on another machine
        run_id = _made(study, run_id, lambda: finish.runs.create("winner", tags))
    done = finish.train((), changes, run_id)
    if retrain:
        again = _made(study, f"{run_id} on train and dev", lambda: finish.runs.create("winner on train and dev", tags))
        done = finish.train(("--retrain_from", run_id), changes, again)
    for run in {one.run_id for one in finished if one.run_id}:
        shutil.rmtree(finish.output / run / artifacts.CHECKPOINTS, ignore_errors=True)
    return Winner(first.setting, best.seed, done.folder.name, found, done.outcome or {})


def _made(study: optuna.Study, source: str, make: Callable[[], str]) -> str:
    """The run that was made from this source, now or by an earlier command."""
    known: dict[str, str] = study.user_attrs.get(_MADE, {})
    if source not in known:
        known = {**known, source: make()}
        study.set_user_attr(_MADE, known)
    return known[source]
