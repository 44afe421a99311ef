"""The finals: the best settings again with fresh seeds, since the best of many trials was also the luckiest.

They are trials of a study of their own, NAME.finals, so that they survive what the search survives.
"""

import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from trainer.core import artifacts
from trainer.core.errors import TuningError
from tuning.child import Share
from tuning.drivers import BEAT_SECONDS
from tuning.queue import FIXED
from tuning.ranking import FinalRun, rank
from tuning.runs import Runs
from tuning.study import open_study
from tuning.training import BUSY_SECONDS, Order, Training
from tuning.trial import Plan
from tuning.trials import Attribute, begun, counted, left_over, scored

__all__ = [
    "Finish",
    "Winner",
    "complete",
    "count",
    "fill",
    "is_filled",
    "open_finals",
    "read",
    "seed_of",
    "settings_of",
]

_SETTING, _SEED = "setting", "seed"
_HIGHEST = 2**53
_FILLED = "filled"
"""Attribute of the finals: the leader that has queued them."""
_MADE = "winners"
"""Study attribute: the runs made for winners, by what each is made from."""
_STOP_SECONDS = 30
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


def open_finals(storage: BaseStorage, study: optuna.Study) -> optuna.Study:
    """The study of the finals."""
    return open_study(storage, f"{study.study_name}.finals", {"finals of": study.study_name}, ["maximize"])


def fill(
    finals: optuna.Study, study: optuna.Study, top_k: int, seeds: Sequence[int], leader: Mapping[str, Any]
) -> None:
    """Queue the best settings with these seeds: those that are not there yet, and once more those that have failed."""
    waiting = [trial for trial in counted(finals) if trial.state != TrialState.FAIL]
    there = {_drawn(trial) for trial in [*waiting, *left_over(finals)]}
    best = [trial.number for trial in scored(study)[:top_k]]
    # All settings with one seed first: a search that is stopped has compared something.
    for drawn in [(setting, seed) for seed in seeds for setting in best if (setting, seed) not in there]:
        finals.enqueue_trial(dict(zip((_SETTING, _SEED), drawn, strict=True)))
    finals.set_user_attr(_FILLED, dict(leader))


def is_filled(finals: optuna.Study, leader: Mapping[str, Any]) -> bool:
    """Whether this leader, who does so once, has queued the finals."""
    return bool(finals.user_attrs.get(_FILLED) == leader)


def _drawn(trial: FrozenTrial) -> tuple[int | None, int | None]:
    """Setting and seed of a trial of the finals, which waits or has been begun."""
    given = {**trial.system_attrs.get(FIXED, {}), **trial.params}
    return given.get(_SETTING), given.get(_SEED)


def count(finals: optuna.Study) -> int:
    """How many were asked for: without the trials that continue one that was cut off, or were one too many."""
    beside = {Attribute.RETRY_OF, Attribute.SURPLUS}
    return sum(not beside & set(trial.user_attrs) for trial in finals.get_trials(deepcopy=False))


def settings_of(trial: optuna.Trial, study: optuna.Study) -> dict[str, Any]:
    """The settings that a trial of the finals trains again."""
    number = trial.suggest_int(_SETTING, 0, _HIGHEST)
    chosen: dict[str, Any] = study.get_trials(deepcopy=False)[number].user_attrs[Attribute.SETTINGS]
    return dict(chosen)


def seed_of(trial: optuna.Trial) -> int:
    """The seed that a trial of the finals trains with."""
    return trial.suggest_int(_SEED, 0, _HIGHEST)


def read(finals: optuna.Study, seeds: Collection[int]) -> list[FinalRun]:
    """What came of the finals with these seeds: settings that have others too are not to be ahead for it."""
    return [
        FinalRun(
            setting=trial.params[_SETTING],
            seed=trial.params[_SEED],
            score=trial.value if trial.state == TrialState.COMPLETE else None,
            run_id=trial.user_attrs.get(Attribute.RUN_ID, ""),
        )
        for trial in begun(finals)
        if trial.params.get(_SEED) in seeds
    ]


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How the last trainings of a search run: what all have in common, their share of the machine, their runs."""

    plan: Plan
    share: Share
    runs: Runs
    on_beat: Callable[[], None]
    """Called every few seconds meanwhile."""

    def train(self, words: Sequence[str], changes: Mapping[str, Any], run_id: str) -> Order:
        """Run a training to its end, unless it has its results; a stop ends it too."""
        order = Order(tuple(words), changes, self.plan.output / run_id)
        if _has_test(order):
            return order
        until = time.monotonic() + BUSY_SECONDS
        while order.is_busy and time.monotonic() < until:
            self.on_beat()
            time.sleep(_LOOK_SECONDS)
        training = Training(order, self.share)
        try:
            while training.status is None:
                self.on_beat()
                training.wait(BEAT_SECONDS)
        except BaseException:
            training.ask_to_stop()
            raise
        finally:
            training.wait(_STOP_SECONDS)
            training.clean_up()
            training.wait()
            self.runs.close(order.folder, "FINISHED" if training.status == 0 else "FAILED", {})
        if training.status or not _has_test(order):
            raise TuningError(f"winner's training must end well, but got run {run_id}: {training.cause()}")
        return order


def complete(finished: Sequence[FinalRun], study: optuna.Study, finish: Finish, *, retrain: bool) -> Winner:
    """The winner with its model, which alone reads test. Of its seeds the one with the best dev score stands for it.

    retrain: train once more, on train and dev. Raises TuningError when no final has a score or a training fails.
    """
    plan, runs = finish.plan, finish.runs
    first = rank(finished)[0]
    of_first = [one for one in finished if one.setting == first.setting and one.score is not None]
    if not of_first:
        raise TuningError("finals must have a score, but got none: every training failed. See their logs.")
    best = max(of_first, key=lambda one: (one.score or 0.0, -one.seed))
    settings = study.get_trials(deepcopy=False)[first.setting].user_attrs[Attribute.SETTINGS]
    changes = {**settings, "seed": best.seed}
    words, tags = _with_test(plan.words), {artifacts.TAG_STUDY: study.study_name}
    run_id = best.run_id
    if not (plan.output / run_id).is_dir():  # it was trained on another machine
        run_id = _made(study, run_id, lambda: runs.create("winner", tags))
    done = finish.train(words, changes, run_id)
    if retrain:
        again = _made(study, f"{run_id} on train and dev", lambda: runs.create("winner on train and dev", tags))
        done = finish.train((*words, "--retrain_from", run_id), changes, again)
    for run in {one.run_id for one in finished if one.run_id}:
        shutil.rmtree(plan.output / run / artifacts.CHECKPOINTS, ignore_errors=True)
    return Winner(first.setting, best.seed, done.folder.name, settings, done.outcome or {})


def _made(study: optuna.Study, source: str, make: Callable[[], str]) -> str:
    """The run that was made from this source, now or by an earlier command."""
    known: dict[str, str] = study.user_attrs.get(_MADE, {})
    if source not in known:
        known = {**known, source: make()}
        study.set_user_attr(_MADE, known)
    return known[source]


def _with_test(words: Sequence[str]) -> tuple[str, ...]:
    place = list(words).index("--read_test")
    return (*words[: place + 1], "true", *words[place + 2 :])


def _has_test(order: Order) -> bool:
    return artifacts.metric("test", "macro_f1") in (order.outcome or {})
