"""The results of a search: table of trials, report and winning settings on its run, and a summary in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import yaml

from trainer.core import artifacts
from trainer.reporting import console
from trainer.reporting.optional import attempt
from trainer.reporting.report import Estimate
from trainer.tracking.run import Tracker
from tuning.analysis.narrative import count
from tuning.finals.statistics import FinalRun, rank
from tuning.finals.winner import Winner
from tuning.reporting.report import StudyReport, write_report
from tuning.reporting.trials_table import TRIALS, write_trials
from tuning.study.trials import score, scored, seconds, started

__all__ = ["PRESET", "log", "show"]

PRESET = "winner.yaml"
_LABELS = {"macro_f1": "macro F1", "micro_f1": "micro F1", "macro_ap": "macro AP"}
_TRIALS = "search/trials"
_HEADLINES = (*_LABELS, "macro_f1_low", "macro_f1_high")


def log(  # noqa: PLR0913, PLR0917  # everything that a search results in
    tracker: Tracker,
    study: optuna.Study,
    objectives: Sequence[str],
    finals: Sequence[FinalRun],
    winner: Winner | None,
    preset: Mapping[str, Any],
    facts: Mapping[str, object],
) -> None:
    """Write every result to the folder of the study's run, and log it.

    objectives: names of the objectives. preset: all settings of the winner.
    """
    folder = tracker.folder
    write_trials(folder, study)
    if winner:
        (folder / PRESET).write_text(yaml.safe_dump(dict(preset), sort_keys=False, allow_unicode=True), "utf-8")
    report = StudyReport(
        name=study.study_name,
        objective_label=objectives[0],
        other_objectives=objectives[1:],
        study=study,
        finals=finals,
        winner=winner.trial if winner else None,
        winner_settings=winner.settings if winner else {},
        test_scores=_test_estimates(winner) if winner else {},
        facts=facts,
    )
    attempt("the report of the search", lambda: write_report(folder / artifacts.REPORT, report))
    for name in (TRIALS, artifacts.REPORT, *([PRESET] if winner else [])):
        if (folder / name).exists():
            tracker.log_artifact(name)
    tracker.tag_tables([TRIALS])
    if winner:
        tracker.set_tags({artifacts.TAG_WINNER: winner.run_id})
    numbers = _metrics(study, finals, winner)
    # A single number is at step 0, where MLflow draws a bar; a continued study has other numbers.
    step = int(numbers[_TRIALS]) if tracker.next_step(_TRIALS) else 0
    tracker.log_metrics(numbers, step)
    tracker.set_tags({artifacts.TAG_NOTE: _note(study, objectives, winner, tracker.page)})


def show(
    screen: console.Console, tracker: Tracker, study: optuna.Study, finals: Sequence[FinalRun], winner: Winner | None
) -> None:
    """Print the best trial, the finals, the winner and where its results are."""
    best, *others = scored(study)  # there is one: `run_trials` has raised otherwise
    over = f", the best of {1 + len(others)} complete trials (optimistic)" if others else ""
    screen.show_note(f"best trial: {best.number} with {score(best):.4f}{over}")
    for one in rank(finals):
        shown = "no score" if one.mean is None else f"{one.mean:.4f}"
        between = f" ({one.interval[0]:.4f} to {one.interval[1]:.4f})" if one.interval else ""
        missing = f", {count(len(one.missing), 'seed')} missing" if one.missing else ""
        over = count(len(one.scores), "fresh seed")
        screen.show_note(f"settings of trial {one.trial} over {over}: {shown}{between}{missing}")
    if winner:
        screen.show_note(f"winner: settings of trial {winner.trial}, model of run {winner.run_id}")
        screen.show_note(f"preset:   {tracker.folder / PRESET}")
        screen.show_note(f"candidate: mlflow run . -e promote -P run_id={winner.run_id}")
    screen.show_note(f"report:   {tracker.folder / artifacts.REPORT}")
    screen.show_note(f"run:      {tracker.run_id}")


def _note(study: optuna.Study, objectives: Sequence[str], winner: Winner | None, page: str) -> str:
    """Return the result as Markdown, which MLflow's page shows as the description of the run."""
    best = scored(study)[0]
    # Short lines, because the page folds a long description.
    lines = [
        f"Search over {count(len(started(study)), 'trial')}; best: trial {best.number}, {objectives[0]} "
        f"{score(best):.4f} (optimistic)."
    ]
    if winner:
        run = f"[{study.study_name} winner]({page.rpartition('/')[0]}/{winner.run_id})"
        shown = {name: one.value for name, one in _test_estimates(winner).items() if one.value and "F1" in name}
        scores = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
        lines.append(f"Winner: trial {winner.trial}, run {run}. On test: {scores}.")
    files = {"report": artifacts.REPORT, "trials": TRIALS, **({"preset of the winner": PRESET} if winner else {})}
    lines.append("More: " + ", ".join(f"[{name}]({page}/artifacts/{file})" for name, file in files.items()))
    return "\n\n".join(lines)


def _test_scores(winner: Winner) -> dict[str, float]:
    named = {name: artifacts.metric("test", name) for name in _HEADLINES}
    return {name: winner.scores[metric] for name, metric in named.items() if metric in winner.scores}


def _test_estimates(winner: Winner) -> dict[str, Estimate]:
    """Return the headline scores on test with their intervals, by their names for people."""
    scores = _test_scores(winner)
    return {
        label: Estimate(scores[name], scores.get(f"{name}_low"), scores.get(f"{name}_high"))
        for name, label in _LABELS.items()
        if name in scores
    }


def _metrics(study: optuna.Study, finals: Sequence[FinalRun], winner: Winner | None) -> dict[str, float]:
    known = started(study)
    spent = sum(taken for trial in known if (taken := seconds(trial)) is not None)
    found = {_TRIALS: len(known), "search/trainer_seconds": spent}
    summaries = {one.trial: one for one in rank(finals)}
    mean = summaries[winner.trial].mean if winner else None
    scores = {artifacts.metric("test", name): value for name, value in (_test_scores(winner) if winner else {}).items()}
    return found | scores | ({"search/winner": mean} if mean is not None else {})
