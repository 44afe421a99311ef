"""The stages of a search, in the order in which `tuning.tune` calls them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from trainer.core import artifacts, console
from trainer.core.connection import connect
from trainer.core.environment import available_cores, child_environment
from trainer.core.errors import SettingsError, TuningError
from trainer.core.runs import MAY_DIFFER
from trainer.core.settings import flatten
from trainer.core.tracking import Tracker, open_run
from tuning import finals, results, study, warm
from tuning.child import Share
from tuning.config import TuneConfig
from tuning.driver import Driver, common_cause
from tuning.finals import Winner
from tuning.leader import Place, take_place
from tuning.questions import Trainable, ask, check_space
from tuning.queue import Queue
from tuning.ranking import FinalRun
from tuning.runs import Runs, best_runs
from tuning.shares import shares
from tuning.space import SPACES, Space, read_space
from tuning.trial import COSTS, Plan
from tuning.trials import Attribute, begun, scored

__all__ = ["Search", "open_search"]

_EARLIER_RUNS = 5
_QUEUED = "queued"
"""Study attribute: whether the trials that are known from the start wait in the queue."""
_LABELS = {
    "macro_f1": "dev macro F1",
    "macro_ap": "dev macro AP",
    "micro_f1": "dev micro F1",
    "latency": "latency in ms",
    "size": "size in MB",
}
_STEPWISE = ("hyperband", "median", "successive_halving")


@dataclass(frozen=True)
class Search:
    """A search that has been opened: what is asked for, the study, this driver's place in it, tracker and screen."""

    config: TuneConfig
    trainable: Trainable
    space: Space
    losses: tuple[str, ...]
    storage: BaseStorage
    study: optuna.Study
    place: Place
    tracker: Tracker
    screen: console.Console
    driver: Driver
    total: int
    """Trials of the study in all."""

    @property
    def leads(self) -> bool:
        """Whether this driver keeps the study's run."""
        return self.place.leads

    def announce(self) -> None:
        """Say on the screen what is going to happen."""
        asked, facts = self.config.search, self.trainable.data
        goal = artifacts.metric("dev", asked.objective) + (
            f" against {asked.against}" if asked.against != "none" else ""
        )
        known = len(begun(self.study))
        self.screen.show_plan(
            {
                "study": {
                    "name": self.study.study_name,
                    "trials": f"{self.total} in all" + (f", {known} there already" if known else ""),
                    "objective": goal,
                    "sampler": f"{asked.sampler}, pruner {asked.active_pruner}",
                    "finals": f"best {self.config.finals.top_k} with {self.config.finals.seeds} seeds",
                },
                "space": {one.name: _range(one.describe()) for one in self.space.dimensions},
                "training": {
                    "preset": self.trainable.settings["preset"],
                    "data set": f"{facts['name']} ({facts['rows']['train']:,} rows of train)",
                    "losses": ", ".join(self.losses),
                    "workers": f"{len(self.driver.shares)} with {len(self.driver.shares[0].cores)} core(s) each",
                },
            },
            hint=f"To go on after a stop, or to help: the same command with -P study={self.study.study_name}",
        )
        if not self.leads:
            self.screen.show_note(f"another driver keeps the study's run, {self.place.run_id}; this one helps")

    def explore(self) -> None:
        """Run the trials of the search. Raises TuningError when none of them has a score."""
        queue = Queue(self.study, self.total)
        self.driver.run(queue, self._plan())
        if not scored(self.study):
            causes = [
                str(trial.user_attrs[Attribute.CAUSE])
                for trial in begun(self.study)
                if Attribute.CAUSE in trial.user_attrs
            ]
            raise TuningError(f"a search must have a trial with a score, but got none. {common_cause(causes)}")

    def run_finals(self) -> list[FinalRun]:
        """Train the best settings again with fresh seeds, together with all other drivers."""
        asked = self.config.finals
        if not asked.top_k:
            return []
        used = self.config.study.seed + self.config.search.repeats - 1
        rounds = finals.open_finals(self.storage, self.study, asked, used, fills=self.leads)
        self.driver.run(Queue(rounds, len(rounds.trials)), self._finals_plan())
        return finals.read(rounds)

    def complete(self, finished: Sequence[FinalRun]) -> Winner | None:
        """Let the winner's model read test, and make it a candidate; None when there were no finals."""
        if not finished:
            return None
        plan = self._finals_plan()
        everything = Share(tuple(available_cores()), self._all_gpus())
        return finals.complete(
            finished, self.study, plan, everything, self.driver.runs, retrain=self.config.finals.retrain_on_dev
        )

    def report(self, finished: Sequence[FinalRun], winner: Winner | None) -> None:
        """Write tables, figures, the report and the winner's preset, record them, and say where they are."""
        preset = self._preset(winner) if winner else {}
        asked = self.config.search
        facts = {
            "data set": self.trainable.data["name"],
            "preset": self.trainable.settings["preset"],
            "losses": ", ".join(self.losses),
            "space": {one.name: _range(one.describe()) for one in self.space.dimensions},
            "seed": self.config.study.seed,
            "to go on with it": f"-P study={self.study.study_name}",
        }
        goals = [_LABELS[asked.objective], *([_LABELS[asked.against]] if asked.against != "none" else [])]
        results.log(self.tracker, self.study, goals, finished, winner, preset, facts)
        results.show(self.screen, self.tracker, self.study, finished, winner)

    def promote(self, winner: Winner | None) -> None:
        """Hand the winner's model to `promote`, when asked to. Raises TuningError when that ends with an error."""
        if winner is None or not self.config.finals.promote:
            return
        command = [sys.executable, "-m", "registry.promote", "--run_id", winner.run_id, "--output", str(self._output)]
        done = subprocess.run(command, env=child_environment(), check=False)
        if done.returncode:
            raise TuningError(f"promote must end well, but got exit status {done.returncode} for run {winner.run_id}.")

    @property
    def _output(self) -> Path:
        return Path(self.config.study.output)

    def _plan(self) -> Plan:
        asked = self.config.search
        metrics = [artifacts.metric("dev", asked.objective)]
        metrics += [COSTS[asked.against]] if asked.against != "none" else []
        seeds = [self.config.study.seed + offset for offset in range(asked.repeats)]
        return Plan(
            words=self._words(),
            output=self._output,
            metrics=tuple(metrics),
            reports=asked.reports if asked.repeats == 1 and asked.against == "none" else 0,
            by_seed=asked.active_pruner == "wilcoxon",
            seconds=asked.trial_minutes * 60,
            epochs=self.trainable.settings["epochs"],
            name="trial",
            keeps_checkpoints=False,
            changes=self._changes,
            seeds=lambda _trial: seeds,
        )

    def _finals_plan(self) -> Plan:
        return Plan(
            words=self._words(),
            output=self._output,
            metrics=(artifacts.metric("dev", self.config.search.objective),),
            reports=0,
            by_seed=False,
            seconds=self.config.search.trial_minutes * 60,
            epochs=self.trainable.settings["epochs"],
            name="final",
            keeps_checkpoints=True,  # the winner goes on from its own
            changes=lambda trial: finals.settings_of(trial, self.study),
            seeds=lambda trial: [finals.seed_of(trial)],
        )

    def _words(self) -> tuple[str, ...]:
        asked = ("--best_metric", self.config.search.objective, "--read_test", "false")
        return (*self.trainable.words, "--output", str(self._output), *asked)

    def _changes(self, trial: optuna.Trial) -> dict[str, Any]:
        """The settings of a trial: what the space suggests, and as many evaluations as the pruner wants to see."""
        chosen: dict[str, Any] = self.space.suggest(trial)
        asked = self.config.search
        if asked.active_pruner in _STEPWISE and "--evals_per_epoch" not in self.trainable.words:
            epochs = chosen.get("epochs", self.trainable.settings["epochs"])
            chosen["evals_per_epoch"] = max(1, round(asked.reports / epochs))
        return chosen

    def _preset(self, winner: Winner) -> dict[str, Any]:
        """Every setting of the winner's training, but those of a single run."""
        whole = {**self.trainable.settings, **winner.settings}
        return {name: whole[name] for name, part in self.trainable.known.items() if part != "run"}

    def _all_gpus(self) -> tuple[str, ...] | None:
        parts = [share.gpus for share in self.driver.shares if share.gpus is not None]
        return tuple(dict.fromkeys(name for part in parts for name in part)) if parts else None


@contextmanager
def open_search(config: TuneConfig, of_training: Mapping[str, str]) -> Iterator[Search]:
    """The search of these settings, its study and run open. Everything that can be wrong is found before that.

    of_training: settings of `train` that all trials share, as text.
    """
    asked, output = config.search, Path(config.study.output)
    own = {"seed": str(config.study.seed), "output": config.study.output}
    trainable = ask(of_training, own)
    losses = _losses(asked.losses, trainable, of_training)
    space = read_space(_space_name(asked.space, trainable), trainable.settings, trainable.known, losses, [*of_training])
    check_space(space, trainable)
    grid = warm.read_grid(space, asked.grid_points, asked.trials) if asked.sampler == "grid" else []
    parts = shares(asked.workers, trainable.settings["processes"])
    screen, store = console.make(), connect()
    metric = artifacts.metric("dev", asked.objective)
    digests = {role: trainable.data["digests"][role] for role in ("train", "dev")}
    earlier = best_runs(store, asked.warm_start, metric, digests, _EARLIER_RUNS) if asked.warm_start else []
    storage = study.open_storage(output)
    goals: list[study.Goal] = ["maximize"] if asked.against == "none" else ["maximize", "minimize"]
    about = _about(config, trainable, space, losses)
    opened = study.open_study(storage, config.study.study, about, goals, prefix=Path(trainable.settings["preset"]).stem)
    place = take_place(opened, screen.show_note)
    known = len(opened.get_trials(deepcopy=False))
    # A sampler that is seeded alike after a resume would suggest what it has suggested before.
    opened.sampler = study.make_sampler(asked, config.study.seed + known if place.leads else None)
    opened.pruner = study.make_pruner(asked)
    tags = {artifacts.TAG_COMMAND: "tune", artifacts.TAG_STUDY: opened.study_name}
    resumed = place.run_id if place.leads else None
    parameters = {**trainable.settings, **flatten(config)}
    _set_threads(parts[0], trainable.settings["processes"])
    with open_run(output, resume=resumed, parameters=parameters, tags=tags) as tracker:
        if place.leads:
            place.lead(tracker.run_id)
        if place.leads and _QUEUED not in opened.user_attrs:
            for point in grid:
                opened.enqueue_trial(point, skip_if_exists=True)
            if not grid:
                warm.enqueue_known(opened, space, losses, trainable.presets, earlier)
            opened.set_user_attr(_QUEUED, value=True)
        runs = Runs(store, place.run_id or tracker.run_id)
        driver = Driver(parts, runs, screen, asked.max_failures, place.beat)
        total = len(grid) or asked.trials
        yield Search(config, trainable, space, losses, storage, opened, place, tracker, screen, driver, total)


def _losses(asked: str, trainable: Trainable, given: Mapping[str, str]) -> tuple[str, ...]:
    if not asked:
        return (trainable.settings["loss"],)
    if "loss" in given:
        raise SettingsError(f"losses and loss must not both be given, but got losses={asked}, loss={given['loss']}.")
    losses = tuple(part.strip() for part in asked.split(","))
    if len(set(losses)) < len(losses):
        raise SettingsError(f"losses must be different ones, but got {asked=}.")
    return losses


def _space_name(asked: str, trainable: Trainable) -> str:
    if asked != "auto":
        return asked
    preset = trainable.settings["preset"]
    return preset if (SPACES / f"{preset}.yaml").is_file() else "default"


def _about(config: TuneConfig, trainable: Trainable, space: Space, losses: Sequence[str]) -> dict[str, Any]:
    """What makes two commands the same search."""
    asked = config.search
    free = {*MAY_DIFFER, "preset"}
    return {
        "objective": asked.objective,
        "against": asked.against,
        "repeats": asked.repeats,
        "reports": asked.reports,
        "losses": list(losses),
        "space": space.describe(),
        "settings": {name: value for name, value in trainable.settings.items() if name not in free},
        "data": dict(trainable.data["digests"]),
    }


def _set_threads(share: Share, processes: str) -> None:
    """Give the libraries of each training its share of cores; they read this when they are loaded."""
    each = 1 if processes == "auto" else int(processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(len(share.cores) // each, 1)))


def _range(line: Mapping[str, Any]) -> str:
    if "choices" in line:
        return ", ".join(map(str, line["choices"]))
    return f"{line['low']:g} to {line['high']:g}" + (", log" if line.get("log") else "")
