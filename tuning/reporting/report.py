"""The report of a search: one self-contained HTML page with interactive figures, which needs no network.

A number that does not exist is a dash, never 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.reporting.page import page_environment
from trainer.reporting.report import DASH, Estimate, interval, number, show
from tuning.analysis import narrative
from tuning.analysis.importance import importances
from tuning.analysis.ranges import parameter_ranges
from tuning.finals.statistics import FinalRun, SeedSummary, rank
from tuning.reporting.figures import plot_figures
from tuning.study import trials

__all__ = ["StudyReport", "write_report"]


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """The content of the report of a search that is finished, running or stopped."""

    name: str
    objective_label: str
    """The first objective, such as `dev macro F1`."""
    study: optuna.Study
    """With the sampler and pruner it ran with; `tuning.study.trials` names the user attributes of its trials."""
    finals: Sequence[FinalRun] = ()
    winner: int | None = None
    """Number of the trial whose settings won."""
    winner_settings: Mapping[str, object] = field(default_factory=dict)
    """Settings of the winner that differ from those that all trials share: name to value, in the types of YAML."""
    test_scores: Mapping[str, Estimate] = field(default_factory=dict)
    """Scores of the winner: name to score."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Other facts to list: name to value."""
    other_objectives: Sequence[str] = ()
    """Names of the objectives after the first."""


def write_report(path: Path, data: StudyReport) -> Path:
    """Write the report as one HTML file and return `path`.

    All text is escaped, and the page's own policy forbids every outside request.
    Raises ValueError unless the study has one objective for each name.
    """
    import yaml
    from plotly.offline import get_plotlyjs

    environment = page_environment(Path(__file__).parent)
    environment.filters.update(
        number=number, show=show, interval=interval, key=_sort_key, list_trials=narrative.list_trials
    )
    template = environment.get_template("report.html.j2")
    objectives = [data.objective_label, *data.other_objectives]
    figures, unavailable = plot_figures(data.study, objectives)
    page = template.render(
        data=data,
        dash=DASH,
        **_findings(data),
        figures=figures,
        unavailable=unavailable,
        plotly=get_plotlyjs() if figures else "",  # several megabytes
        trials=_trial_table(data.study, objectives),
        settings=yaml.safe_dump(dict(data.winner_settings), sort_keys=False, allow_unicode=True),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
    return path


def _findings(data: StudyReport) -> dict[str, Any]:
    summaries, found = rank(data.finals), importances(data.study)
    ranges = parameter_ranges(data.study)
    return {
        "summary": [
            narrative.describe_search(data.study, data.objective_label),
            *narrative.describe_effort(data.study),
            *narrative.describe_limits(data.study),
            *narrative.describe_best(data.study, data.objective_label, summaries),
            *narrative.describe_finals(summaries),
            *narrative.describe_importance(found),
            *narrative.describe_edges(ranges),
        ],
        "finals": _final_table(data.finals, summaries),
        "ranges": ranges,
        "fractions": found[0].fractions,
        "failures": narrative.failures(data.study),
    }


def _final_table(finals: Sequence[FinalRun], summaries: Sequence[SeedSummary]) -> dict[str, Any]:
    seeds = sorted({run.seed for run in finals})
    rows = [
        {
            "trial": one.trial,
            "mean": Estimate(one.mean, *(one.interval or (None, None))),
            "scores": [one.scores.get(seed) for seed in seeds],
        }
        for one in summaries
    ]
    return {"seeds": seeds, "rows": rows}


def _trial_table(study: optuna.Study, objectives: Sequence[str]) -> dict[str, Any]:
    found = study.get_trials(deepcopy=False)
    parameters = sorted({name for trial in found for name in trial.params})
    causes = [trials.cause(trial) for trial in found]
    has_failures = any(cause is not None for cause in causes)
    head = [
        "trial",
        "state",
        *objectives,
        "seconds",
        *(["cause of failure"] if has_failures else []),
        *parameters,
        "run",
    ]
    rows = [
        [
            *_result_cells(trial, len(objectives)),
            *([cause] if has_failures else []),
            *_parameter_cells(trial, parameters),
        ]
        for trial, cause in zip(found, causes, strict=True)
    ]
    return {"head": head, "rows": rows}


def _result_cells(trial: FrozenTrial, objectives: int) -> list[object]:
    # Optuna gives a pruned trial the value it reported last, which is no result.
    values = trial.values if trial.state == TrialState.COMPLETE else [None] * objectives
    return [trial.number, trials.state(trial), *values, trials.seconds(trial)]


def _parameter_cells(trial: FrozenTrial, parameters: Iterable[str]) -> list[object]:
    return [*(trial.params.get(name) for name in parameters), trials.run_id(trial)]


def _sort_key(value: object) -> str:
    """Return the key that the page's script sorts by; a missing value has an empty one and goes last."""
    return "" if value is None else repr(value) if isinstance(value, int | float) else str(value)
