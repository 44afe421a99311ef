"""The results of a comparison on its run: report, tables, figures and metrics, and the summary in the terminal."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.core.text_files import write_json, write_table
from trainer.evaluation.comparison import verdict_sentence
from trainer.reporting import console
from trainer.reporting.optional import attempt
from trainer.reporting.report import Estimate, interval, number
from trainer.runs.results import TABLE_DIGITS
from trainer.tracking.run import Tracker
from tuning.comparison.report import narrative
from tuning.comparison.report.content import ComparisonReport
from tuning.comparison.report.figures import drawings
from tuning.comparison.report.loading import OWN
from tuning.comparison.report.page import write_page

__all__ = ["COMPARISON", "TABLES", "log", "show", "write_files"]

COMPARISON = "comparison.json"
TABLES = ("ranking.json", "pairs.json", "scores_by_policy.json", "label_differences.json", "runs.json")
"""In the format of `mlflow.log_table`."""
_UNSCORED = "comparison/unscored_runs"


def write_files(folder: Path, report: ComparisonReport) -> list[str]:
    """Write comparison.json, the tables, the figures and the report; return the names of what was written."""
    write_json(folder / COMPARISON, report.as_dict())
    tables = _tables(report)
    for name, rows in tables.items():
        write_table(folder / name, rows, digits=TABLE_DIGITS)
    pictures = _draw(folder / artifacts.FIGURES, report)
    attempt("the report of the comparison", lambda: write_page(folder / artifacts.REPORT, report, pictures))
    names = [COMPARISON, *tables, artifacts.REPORT, artifacts.FIGURES]
    return [name for name in names if (folder / name).exists()]


def log(tracker: Tracker, report: ComparisonReport) -> None:
    """Write the results to the folder of the comparison's run, and log them."""
    names = write_files(tracker.folder, report)
    for name in names:
        tracker.log_artifact(name)
    tracker.tag_tables([name for name in TABLES if name in names])
    # A single number is at step 0, where MLflow draws a bar; a comparison that is continued has others.
    tracker.log_metrics(_metrics(report), tracker.next_step(_UNSCORED))
    tracker.set_tags({artifacts.TAG_NOTE: _note(report, tracker.page)})


def show(screen: console.Console, folder: Path, report: ComparisonReport) -> None:
    """Print ranking, verdicts, recommendation and where the report is. folder: that of the files."""
    metric = narrative.METRIC_NAMES[report.plan.metric]
    screen.show_table(f"Ranking by {metric} on dev", *_ranking(report))
    for line in (*narrative.verdicts(report), *narrative.limits(report), narrative.recommendation(report)):
        screen.show_note(line)
    for line in narrative.unscored(report):
        screen.show_warning(line)
    screen.show_note(f"report:   {folder / artifacts.REPORT}")


def _ranking(report: ComparisonReport) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    rows = []
    for one in report.ranking:
        score = report.score(one.configuration, OWN, report.plan.metric)
        shown = (
            f"{number(score.value)} ({interval(Estimate(score.value, score.low, score.high))})"
            if score
            else number(None)
        )
        seeds = f"{len(one.by_seed)} of {len(report.plan.seeds)}"
        rows.append((one.configuration, number(one.mean), number(one.deviation), seeds, shown))
    role = report.data.get("role", "test")
    return ("configuration", "dev", "SD", "seeds", f"{role} (95 % interval)"), rows


def _draw(folder: Path, report: ComparisonReport) -> list[Path]:
    drawn = []
    for name, draw in drawings(report).items():
        path = attempt(f"the figure {name}", partial(draw, folder / name))
        if path is None:  # a part of it, or one of an earlier process
            (folder / name).unlink(missing_ok=True)
        else:
            drawn.append(path)
    return drawn


def _tables(report: ComparisonReport) -> dict[str, list[dict[str, Any]]]:
    ranking = [
        {"configuration": one.configuration, "dev_mean": one.mean, "dev_deviation": one.deviation}
        | {f"seed_{seed}": one.by_seed.get(seed) for seed in report.plan.seeds}
        for one in report.ranking
    ]
    left_out = ("per_label", "seeds")
    pairs = [
        {name: value for name, value in asdict(pair).items() if name not in left_out}
        | {"sentence": verdict_sentence(pair)}
        for pair in report.pairs
    ]
    scores = [{name: value for name, value in asdict(row).items() if name != "by_seed"} for row in report.scores]
    labels = [
        {"first": pair.first, "second": pair.second, "label": label, **asdict(gap)}
        for pair in report.pairs
        for label, gap in zip(report.data["labels"], pair.per_label, strict=True)
        if gap is not None
    ]
    runs = [
        {name: getattr(run, name) for name in ("configuration", "seed", "fold", "state", "dev_score")}
        | asdict(run.cost)
        | {"run_id": run.run_id, "reused": run.reused, "cause": run.cause}
        for run in report.runs
    ]
    found = dict(zip(TABLES, (ranking, pairs, scores, labels, runs), strict=True))
    return {name: rows for name, rows in found.items() if rows}


def _metrics(report: ComparisonReport) -> dict[str, float]:
    """Return few numbers: the score of each configuration, the unscored runs, and the seconds where all are known."""
    seconds = [run.cost.seconds for run in report.runs if run.state == "finished"]
    known = [value for value in seconds if value is not None]
    found = {_UNSCORED: float(len(narrative.unscored(report)))}
    if known and len(known) == len(seconds):
        found["comparison/trainer_seconds"] = sum(known)
    for one in report.ranking:
        name = re.sub(r"[^\w.\- :]", "_", one.configuration)
        score = report.score(one.configuration, OWN, report.plan.metric)
        if score is not None:
            found[f"{report.data['role']}/{report.plan.metric}/{name}"] = score.value
        if one.mean is not None:
            found[f"dev/{report.plan.metric}/{name}"] = one.mean
    return found


def _note(report: ComparisonReport, page: str) -> str:
    """Return the result as Markdown, which MLflow's page shows as the description of the run."""
    lines = [*narrative.verdicts(report), f"**{narrative.recommendation(report)}**"]
    files = {"report": artifacts.REPORT, "everything as JSON": COMPARISON}
    lines.append("More: " + ", ".join(f"[{name}]({page}/artifacts/{file})" for name, file in files.items()))
    return "\n\n".join(lines)
