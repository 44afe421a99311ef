"""The stages of a search, in the order in which `tuning.tune` calls them."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from trainer.core import artifacts
from trainer.core.environment import child_environment
from trainer.core.errors import TuningError
from trainer.reporting import console
from trainer.tracking.run import Tracker
from tuning.analysis.narrative import common_cause, count, failures
from tuning.config import TuneConfig
from tuning.driver import Driver
from tuning.drivers import BEAT_SECONDS
from tuning.execution.objective import COSTS, Plan
from tuning.execution.training import as_words
from tuning.finals import finals
from tuning.finals.statistics import FinalRun
from tuning.finals.winner import Finish, Winner, complete
from tuning.leader import Place
from tuning.preparation import Task
from tuning.questions import Trainable
from tuning.queue import Queue
from tuning.reporting import results
from tuning.study.trials import Attribute, begun, counted, scored, state

__all__ = ["Search"]

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

    task: Task
    storage: BaseStorage
    study: optuna.Study
    place: Place
    tracker: Tracker | None
    """Of the study's run; None for a driver that helps, which has no run."""
    screen: console.Console
    driver: Driver

    @property
    def config(self) -> TuneConfig:
        """The settings of the search."""
        return self.task.config

    @property
    def trainable(self) -> Trainable:
        """What training says of the settings that all trials share."""
        return self.task.trainable

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
                    "trials": f"{self.task.total} in all" + (f", {known} there already" if known else ""),
                    "objective": goal,
                    "sampler": f"{asked.sampler}, pruner {asked.active_pruner}",
                    "finals": f"best {self.config.finals.top_k} with {self.config.finals.seeds} seeds",
                },
                "space": self._ranges,
                "training": {
                    "preset": self.trainable.settings["preset"],
                    "data set": f"{facts['name']} ({facts['rows']['train']:,} rows of train)",
                    "losses": ", ".join(self.task.losses),
                    "workers": f"{len(self.driver.shares)} with {len(self.driver.shares[0].cores)} core(s) each",
                },
            },
            hint=f"To go on after a stop, or to help: the same command with -P study={self.study.study_name}",
        )
        if not self.place.leads:
            self.screen.show_note(f"another driver keeps the study's run, {self.place.run_id}; this one helps")

    def explore(self) -> None:
        """Run the trials of the search. Raises TuningError when none of them has a score."""
        queue = Queue(self.study, self.task.total)
        self.driver.run(queue, self._plan())
        if not scored(self.study):
            causes = {cause: len(numbers) for cause, numbers in failures(self.study).items()}
            raise TuningError(
                f"a search must have a trial with a score, but got none of {count(self.task.total, 'trial')}. "
                f"{common_cause(causes)}Mend that, and raise trials, since failed ones count, or begin a "
                "new study."
            )

    def run_finals(self) -> list[FinalRun]:
        """Train the best settings again with fresh seeds, together with all other drivers."""
        asked = self.config.finals
        if not asked.top_k:
            return []
        rounds = finals.open_finals(self.storage, self.study)
        first = self.config.study.seed + self.config.search.repeats  # after those of the search
        seeds = range(first, first + asked.seeds)
        self.driver.wait(lambda: self._are_queued(rounds, seeds))
        self.driver.run(Queue(rounds, finals.count(rounds)), self._finals_plan())
        return finals.read(rounds, seeds)

    def _are_queued(self, rounds: optuna.Study, seeds: Sequence[int]) -> bool:
        """Whether the finals are known to all drivers; who leads queues them."""
        leader = self.place.leader()
        if self.place.leads:
            finals.fill(rounds, self.study, self.config.finals.top_k, seeds, leader)
        return finals.is_filled(rounds, leader)

    def conclude(self, finished: Sequence[FinalRun]) -> None:
        """Complete the winner, report and promote, or leave that to the driver that keeps the study's run."""
        if self.tracker is None:
            self.screen.show_note(
                f"the driver that keeps run {self.place.run_id} ends the search; "
                "if it is gone, the same command does so in its place"
            )
            return
        self.place.leader()
        winner = self._complete(finished)
        self._settle()
        self._report(self.tracker, finished, winner)
        self._promote(winner)

    def _complete(self, finished: Sequence[FinalRun]) -> Winner | None:
        """Let the winner's model read test, and make it a candidate; None when there were no finals."""
        if not finished:
            return None
        asked = self.config.finals
        self.screen.show_note("winner: " + ("training it on train and dev" if asked.retrain_on_dev else "reading test"))
        finish = Finish(
            words=self._words(read_test=True),
            output=self._output,
            share=self.task.whole,
            runs=self.driver.runs,
            on_beat=self.place.beat,
        )
        return complete(finished, self.study, finish, retrain=asked.retrain_on_dev)

    def _settle(self) -> None:
        """See that no run of the search is left RUNNING, unless another driver is at work: it was given more trials."""
        studies = [self.study, *([finals.open_finals(self.storage, self.study)] if self.config.finals.top_k else [])]
        trials = [trial for one in studies for trial in counted(one)]
        if any(trial.state == TrialState.RUNNING for trial in trials):
            return
        ended = {
            run: state(trial)
            for trial in trials
            if trial.state.is_finished()
            for run in trial.user_attrs.get(Attribute.RUNS, {}).values()
        }
        self.driver.runs.settle(self._output, ended)

    def _report(self, tracker: Tracker, finished: Sequence[FinalRun], winner: Winner | None) -> None:
        """Write tables, figures, the report and the winner's preset, record them, and say where they are."""
        preset = self._preset(winner) if winner else {}
        asked = self.config.search
        facts = {
            "data set": self.trainable.data["name"],
            "preset": self.trainable.settings["preset"],
            "losses": ", ".join(self.task.losses),
            "seed": self.config.study.seed,
            "to go on with it": f"-P study={self.study.study_name}",
        }
        goals = [_LABELS[asked.objective], *([_LABELS[asked.against]] if asked.against != "none" else [])]
        results.log(tracker, self.study, goals, finished, winner, preset, facts)
        results.show(self.screen, tracker, self.study, finished, winner)

    def _promote(self, winner: Winner | None) -> None:
        """Hand the winner's model to `promote`, when asked to. Raises TuningError when that ends with an error."""
        if winner is None or not self.config.finals.promote:
            return
        command = [sys.executable, "-m", "registry.promote", "--run_id", winner.run_id, "--output", str(self._output)]
        with subprocess.Popen(command, env=child_environment()) as promoter:
            while promoter.poll() is None:
                self.place.beat()
                with suppress(subprocess.TimeoutExpired):
                    promoter.wait(BEAT_SECONDS)
        if promoter.returncode:
            raise TuningError(
                f"promote must end well, but got exit status {promoter.returncode} for run {winner.run_id}. Its error "
                f"is above; mend that, and promote alone: mlflow run . -e promote -P run_id={winner.run_id}"
            )

    @property
    def _ranges(self) -> dict[str, str]:
        """What is varied, as people read it."""
        return {one.name: _range(one.describe()) for one in self.task.space.dimensions}

    @property
    def _output(self) -> Path:
        return Path(self.config.study.output)

    def _plan(self) -> Plan:
        asked = self.config.search
        metrics = [artifacts.metric("dev", asked.objective)]
        metrics += [COSTS[asked.against]] if asked.against != "none" else []
        seeds = [self.config.study.seed + offset for offset in range(asked.repeats)]
        return Plan(
            words=self._words(read_test=False),
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
            words=self._words(read_test=False),
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

    def _words(self, *, read_test: bool) -> tuple[str, ...]:
        own = {"output": str(self._output), "best_metric": self.config.search.objective, "read_test": read_test}
        return (*self.trainable.words, *as_words(own))

    def _changes(self, trial: optuna.Trial) -> dict[str, Any]:
        """The settings of a trial: what the space suggests, and as many evaluations as the pruner wants to see."""
        chosen: dict[str, Any] = self.task.space.suggest(trial)
        asked = self.config.search
        if asked.active_pruner in _STEPWISE and "--evals_per_epoch" not in self.trainable.words:
            epochs = chosen.get("epochs", self.trainable.settings["epochs"])
            chosen["evals_per_epoch"] = max(1, round(asked.reports / epochs))
        return chosen

    def _preset(self, winner: Winner) -> dict[str, Any]:
        """Every setting of the winner's training, but those of a single run."""
        whole = {**self.trainable.settings, **winner.settings, "best_metric": self.config.search.objective}
        return {name: whole[name] for name, part in self.trainable.known.items() if part != "run"}


def _range(line: Mapping[str, Any]) -> str:
    if "choices" in line:
        return ", ".join(map(str, line["choices"]))
    return f"{line['low']:g} to {line['high']:g}" + (", log" if line.get("log") else "")
