"""The steps of a comparison, in the order in which `tuning.compare` calls them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from trainer.core import artifacts
from trainer.core.errors import TuningError
from trainer.core.run_folder import output_hint
from trainer.reporting import console
from trainer.tracking.connection import connect
from trainer.tracking.run import Tracker, open_run
from tuning.comparison.config import CompareConfig
from tuning.comparison.named_runs import group_runs, load_named_runs, plan_of_runs
from tuning.comparison.notes import find_notes
from tuning.comparison.plan import describe_changes, describe_pair
from tuning.comparison.report import output as report_output
from tuning.comparison.report.content import build_report
from tuning.comparison.results import ComparedRun, ComparisonPlan
from tuning.comparison.setup import OpenComparison, log_plan
from tuning.comparison.trainings import collect, key_of
from tuning.execution.objective import AnyTrial, Phase
from tuning.study import trials
from tuning.study.trials import Attribute

__all__ = ["RunningComparison", "compare_finished"]

_FEWEST_FAILURES = 3
_WRITTEN_AFTERWARDS = "The plan was written after these runs had ended: their scores may have suggested it."


@dataclass(frozen=True)
class RunningComparison:
    """The steps of an open comparison."""

    opened: OpenComparison

    @property
    def config(self) -> CompareConfig:
        """The settings of the comparison."""
        return self.opened.request.config

    def print_plan(self) -> None:
        """Print what will run."""
        plan, request, study = self.opened.plan, self.opened.request, self.opened.study
        facts, known = request.training.data, trials.counted(study)
        reused = sum(Attribute.REUSED in trial.user_attrs for trial in known)
        done = sum(trial.state.is_finished() for trial in known) - reused
        counts = [f"{len(known)} in all", f"{reused} taken from finished runs" if reused else ""]
        counts.append(f"{done} ended already" if done else "")
        self.opened.screen.show_plan(
            {
                **_plan_sections(plan),
                "training": {
                    "trainings": ", ".join(filter(None, counts)),
                    "preset": request.training.values["preset"],
                    "data set": f"{facts['name']} ({facts['rows']['train']:,} train examples)",
                    "workers": f"{len(request.workers)} with {len(request.workers[0].cores)} core(s) each",
                },
            },
            hint=f"To continue after a stop: the same command with {_argument(study)}; with worker=true on another "
            f"machine it adds workers.{output_hint(request.output)}",
        )
        for text in facts["warnings"]:
            self.opened.screen.show_warning(text)

    def run_trainings(self) -> None:
        """Run the trainings to the end of the last. Raises TuningError when all configurations fail in a row."""
        # Some configurations may fail and the rest stands; failures of all of them suggest a common cause.
        most = max(_FEWEST_FAILURES, len(self.opened.plan.configurations))
        self.opened.optimize(self.opened.study, self._phase(), self.opened.request.workers, most)

    def conclude(self) -> None:
        """Compare the runs and write the report. Raises TuningError afterwards when a training has no result."""
        opened = self.opened
        opened.keep_lead()
        request = opened.request
        runs = collect(opened.study, request.keys(opened.plan), request.shared_digests, request.output, opened.store)
        opened.close_abandoned_runs(request.output, [opened.study])
        if opened.tracker is None:
            raise TypeError("a worker writes no report")
        _report(opened.tracker, opened.screen, opened.plan, runs, find_notes(runs))
        _raise_on_failures(runs, _argument(opened.study))

    def _phase(self) -> Phase:
        request = self.opened.request
        return Phase(
            study=self.opened.study.study_name,
            unit="training",
            name=_name,
            tags=lambda trial: {artifacts.TAG_CONFIGURATION: key_of(trial).configuration},
            settings={**request.training.given, "output": str(request.output), "read_test": True},
            output=request.output,
            metrics=(request.series,),
            reports=0,
            prunes_by_seed=False,
            max_seconds=self.config.trial_minutes * 60,
            epochs=request.training.values["epochs"],
            keeps_checkpoints=False,
            suggest=_settings,
            seeds=lambda trial: [key_of(trial).seed],
            total=lambda: len(trials.counted(self.opened.study)),
            retry_advice="",
        )


def compare_finished(config: CompareConfig, screen: console.Console) -> None:
    """Compare the finished runs of the setting `runs` in a run of its own."""
    store, output = connect(), Path(config.output)
    plan, runs = plan_of_runs(config, group_runs(load_named_runs(config.runs, output, store)))
    tags = {artifacts.TAG_COMMAND: "compare"}
    parameters = {"runs": ", ".join(run.run_id for run in runs)}
    with open_run(output, name=f"compare {plan.name}", parameters=parameters, tags=tags) as tracker:
        screen.show_plan(_plan_sections(plan))
        log_plan(tracker, plan)
        _report(tracker, screen, plan, runs, [_WRITTEN_AFTERWARDS, *find_notes(runs)])


def _report(
    tracker: Tracker, screen: console.Console, plan: ComparisonPlan, runs: Sequence[ComparedRun], notes: Sequence[str]
) -> None:
    """Compare the runs, write the report to the run of the comparison, and print the result."""
    report = build_report(plan, runs, notes=notes)
    report_output.log(tracker, report)
    report_output.show(screen, tracker.folder, report)


def _plan_sections(plan: ComparisonPlan) -> dict[str, dict[str, Any]]:
    seeds = ", ".join(map(str, plan.seeds)) + ("" if len(plan.seeds) > 1 else " (intervals over examples only)")
    return {
        "plan": {
            "comparison": plan.name,
            "written": plan.written,
            "metric": f"test {plan.metric}, differences from {plan.min_effect:g} on are of interest",
            "planned": "; ".join(map(describe_pair, plan.planned)),
            **({"added": "; ".join(map(describe_pair, plan.exploratory))} if plan.exploratory else {}),
            "seeds": seeds,
        },
        "settings": {name: describe_changes(changes) for name, changes in plan.configurations.items()},
    }


def _raise_on_failures(runs: Sequence[ComparedRun], argument: str) -> None:
    """Raise TuningError when runs have no result: the report is complete without them, the comparison is not."""
    without = [run for run in runs if run.state != "finished"]
    if without:
        first = without[0]
        raise TuningError(
            f"{len(without)} of {len(runs)} trainings have no result; the first is {first.configuration} seed "
            f"{first.seed} ({first.cause.rstrip('.')}). The comparison stands without them. Fix it and run the same "
            f"command with {argument}: it trains them again."
        )


def _name(trial: AnyTrial) -> str:
    return str(key_of(trial))


def _settings(trial: optuna.Trial) -> dict[str, Any]:
    settings: Mapping[str, Any] = trial.user_attrs[Attribute.SETTINGS]
    return dict(settings)


def _argument(study: optuna.Study) -> str:
    return shlex.join(["-P", f"comparison={study.study_name}"])
