"""The steps of a search, in the order in which `tuning.tune` calls them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from trainer.core import artifacts, signals
from trainer.core.child_process import child_command, run_to_end
from trainer.core.errors import TuningError
from trainer.core.run_folder import output_hint
from tuning.analysis.narrative import failures
from tuning.config import TuneConfig
from tuning.execution.monitor import TrialInterruptedError
from tuning.execution.objective import Phase
from tuning.finals import finals
from tuning.finals.statistics import FinalRun
from tuning.finals.winner import Winner, WinnerTraining, train_winner
from tuning.reporting import results
from tuning.reporting.best_curve import BestCurve
from tuning.setup import OpenSearch
from tuning.study import trials
from tuning.study.command_lock import is_led
from tuning.study.storage import name_objectives
from tuning.study.trials import Attribute

__all__ = ["Search"]

_LABELS = {
    "macro_f1": "dev macro F1",
    "macro_ap": "dev macro AP",
    "micro_f1": "dev micro F1",
    "latency": "latency in ms",
    "size": "size in MB",
}
# These judge within a training, which must then be evaluated often enough.
_STEPWISE = ("hyperband", "median", "successive_halving")
_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Search:
    """The steps of an open search."""

    opened: OpenSearch

    @property
    def config(self) -> TuneConfig:
        """The settings of the search."""
        return self.opened.request.config

    def print_plan(self) -> None:
        """Print what will run."""
        search, request, study = self.config.search, self.opened.request, self.opened.study
        facts, known = request.training.data, len(trials.started(study))
        objective = artifacts.final_metric(artifacts.metric("dev", search.objective))
        self.opened.screen.show_plan(
            {
                "study": {
                    "name": study.study_name,
                    "trials": f"{request.total} in all" + (f", {known} of them started" if known else ""),
                    "objective": objective + (f" against {search.against}" if search.against != "none" else ""),
                    "sampler": f"{search.sampler}, pruner {search.active_pruner}",
                    "finals": f"best {self.config.finals.top_k} with {self.config.finals.seeds} seeds",
                },
                "space": {one.name: _range(one.describe()) for one in request.space.dimensions},
                "training": {
                    "preset": request.training.values["preset"],
                    "data set": f"{facts['name']} ({facts['rows']['train']:,} train examples)",
                    "losses": ", ".join(request.losses),
                    "workers": f"{len(request.workers)} with {len(request.workers[0].cores)} core(s) each",
                },
            },
            hint=f"To continue after a stop: the same command with {_study_argument(study)}; "
            f"with worker=true on another machine it adds workers.{output_hint(self._output)}",
        )
        for text in facts["warnings"]:
            self.opened.screen.show_warning(text)

    def run_trials(self) -> None:
        """Run the trials of the search. Raises TuningError when none of them has a score."""
        curve = BestCurve(self.opened.tracker) if self.opened.tracker else None  # a worker has no tracker
        self._optimize(self.opened.study, self._search_phase(), curve)
        if curve:  # trials of other machines end without a callback here
            curve(self.opened.study)
        if not trials.scored(self.opened.study):
            causes = {cause: len(numbers) for cause, numbers in failures(self.opened.study).items()}
            raise TuningError(
                f"None of {self.opened.request.total} trials has a score. {trials.common_cause(causes)}Fix it and run "
                "the command again with a larger `trials` (failed trials count), or start a new study."
            )

    def run_finals(self) -> list[FinalRun]:
        """Train the best trials again with fresh seeds and return the results."""
        config = self.config.finals
        if not config.top_k:
            return []
        study = self._open_finals()
        first = self.config.study.seed + self.config.search.repeats  # the search has used those before it
        seeds = range(first, first + config.seeds)
        trials.retry_orphans(study)  # first: `enqueue` would add an interrupted final a second time
        finals.enqueue(study, self.opened.study, config.top_k, seeds)
        self._optimize(study, self._finals_phase(study))
        return finals.results(study, seeds)

    def help_with_finals(self) -> None:
        """Run finals as a worker: from when the leading command queues them until all have ended."""
        opened = self.opened
        with signals.note_stops(opened.stop.set):
            # Without a leading command nothing queues finals.
            while not opened.stop.is_set() and is_led(opened.storage, opened.study.study_name):
                if finals.find_finals(opened.storage, opened.study) is not None:
                    break
                opened.stop.wait(_WAIT_SECONDS)
            else:
                opened.screen.show_note("the command without worker=true runs the finals and writes the report")
                return
        study = self._open_finals()
        self._optimize(study, self._finals_phase(study))

    def conclude(self, finished: Sequence[FinalRun]) -> None:
        """Train the winner, write the report and promote the model where requested."""
        self.opened.keep_lead()
        winner = self._train_winner(finished)
        finals_study = [self._open_finals()] if self.config.finals.top_k else []
        self.opened.close_abandoned_runs(self._output, [self.opened.study, *finals_study])
        self._write_report(finished, winner)
        self._promote(winner)

    def _optimize(self, study: optuna.Study, phase: Phase, curve: BestCurve | None = None) -> None:
        self.opened.optimize(study, phase, self.opened.request.workers, self.config.search.max_failures, curve)

    def _open_finals(self) -> optuna.Study:
        study = finals.open_finals(self.opened.storage, self.opened.study)
        study.sampler = optuna.samplers.RandomSampler()  # every trial has its parameters
        study.pruner = optuna.pruners.NopPruner()
        name_objectives(study, self.opened.request.metrics[:1])
        return study

    def _train_winner(self, finished: Sequence[FinalRun]) -> Winner | None:
        if not finished:
            return None
        opened, retrain = self.opened, self.config.finals.retrain_on_dev
        opened.screen.show_note("winner: " + ("training it on train and dev" if retrain else "reading test"))
        training = WinnerTraining(
            settings=self._shared_settings(read_test=True),
            output=self._output,
            resources=opened.request.machine,
            runs=opened.runs,
            executor=opened.executor,
            stop=opened.stop,
        )
        with signals.note_stops(opened.stop.set):
            try:
                return train_winner(finished, opened.study, training, retrain=retrain)
            except TrialInterruptedError:
                return None  # the signal ends the command after this block

    def _write_report(self, finished: Sequence[FinalRun], winner: Winner | None) -> None:
        opened, search, training = self.opened, self.config.search, self.opened.request.training
        if opened.tracker is None:
            raise TypeError("a worker writes no report")
        facts = {
            "data set": training.data["name"],
            "preset": training.values["preset"],
            "losses": ", ".join(opened.request.losses),
            "seed": self.config.study.seed,
            "to continue it": _study_argument(opened.study),
        }
        objectives = [_LABELS[search.objective], *([_LABELS[search.against]] if search.against != "none" else [])]
        preset = self._preset(winner) if winner else {}
        results.log(opened.tracker, opened.study, objectives, finished, winner, preset, facts)
        results.show(opened.screen, opened.tracker, opened.study, finished, winner)

    def _promote(self, winner: Winner | None) -> None:
        if winner is None or not self.config.finals.promote:
            return
        # A process: `tuning` and `registry` never import each other.
        model = self.opened.request.training.values["registered_model"]
        words = ["--run_id", winner.run_id, "--output", str(self._output), "--registered_model", model]
        status = run_to_end(child_command("registry.promote", words))
        if status:
            raise TuningError(
                f"Promotion of run {winner.run_id} failed with exit status {status}; its error is above. Fix "
                f"it and promote alone: mlflow run . -e promote -P run_id={winner.run_id}"
            )

    def _search_phase(self) -> Phase:
        search = self.config.search
        seeds = [self.config.study.seed + offset for offset in range(search.repeats)]
        return Phase(
            study=self.opened.study.study_name,
            unit="trial",
            name=lambda trial: f"trial {trial.number}",
            tags=lambda trial: {artifacts.TAG_TRIAL: trial.number},
            settings=self._shared_settings(read_test=False),
            output=self._output,
            metrics=tuple(self.opened.request.metrics),
            # 0: seeds are judged instead of steps, and Optuna takes no reports with two objectives.
            reports=search.reports if search.repeats == 1 and search.against == "none" else 0,
            prunes_by_seed=search.active_pruner == "wilcoxon",
            max_seconds=search.trial_minutes * 60,
            epochs=self.opened.request.training.values["epochs"],
            keeps_checkpoints=False,
            suggest=self._suggest,
            seeds=lambda _trial: seeds,
            total=lambda: self.opened.request.total,
            retry_advice=", with a larger `trials` where none is left: failed trials count",
        )

    def _finals_phase(self, study: optuna.Study) -> Phase:
        return Phase(
            study=self.opened.study.study_name,
            unit="final",
            name=lambda trial: f"final {trial.number}",
            tags=lambda trial: {artifacts.TAG_TRIAL: trial.user_attrs[Attribute.SOURCE]},  # that of the search
            settings=self._shared_settings(read_test=False),
            output=self._output,
            metrics=tuple(self.opened.request.metrics[:1]),
            reports=0,
            prunes_by_seed=False,
            max_seconds=self.config.search.trial_minutes * 60,
            epochs=self.opened.request.training.values["epochs"],
            keeps_checkpoints=True,  # the winner continues from its own
            suggest=lambda trial: dict(trial.user_attrs[Attribute.SETTINGS]),
            seeds=lambda trial: [finals.seed_of(trial)],
            total=lambda: finals.count(study),
            retry_advice="",
        )

    @property
    def _output(self) -> Path:
        return Path(self.config.study.output)

    def _shared_settings(self, *, read_test: bool) -> dict[str, Any]:
        own = {"output": str(self._output), "best_metric": self.config.search.objective, "read_test": read_test}
        return {**self.opened.request.training.given, **own}

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the settings of a new trial: those of the space, and the number of evaluations for the pruner."""
        chosen: dict[str, Any] = self.opened.request.space.suggest(trial)
        search, training = self.config.search, self.opened.request.training
        if search.active_pruner in _STEPWISE and "evals_per_epoch" not in training.given:
            epochs = chosen.get("epochs", training.values["epochs"])
            chosen["evals_per_epoch"] = max(1, round(search.reports / epochs))
        return chosen

    def _preset(self, winner: Winner) -> dict[str, Any]:
        """Return every setting of the winner, without those of a single run."""
        training = self.opened.request.training
        values = {**training.values, **winner.settings, "best_metric": self.config.search.objective}
        return {name: values[name] for name, component in training.components.items() if component != "run"}


def _study_argument(study: optuna.Study) -> str:
    return shlex.join(["-P", f"study={study.study_name}"])


def _range(line: Mapping[str, Any]) -> str:
    if "choices" in line:
        return ", ".join(map(str, line["choices"]))
    return f"{line['low']:g} to {line['high']:g}" + (", log" if line.get("log") else "")
