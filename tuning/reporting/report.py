"""One self-contained HTML page about a search: no file beside it, no network; its figures can be moved in.

A number that does not exist stands as a dash, never as 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from trainer.reporting.report import DASH, Estimate, interval, number, show
from tuning.analysis import narrative
from tuning.analysis.importance import importances
from tuning.analysis.ranges import regions
from tuning.analysis.verdict import verdict
from tuning.finals.statistics import FinalRun, Standing, rank
from tuning.reporting.figures import interactive
from tuning.study import trials

__all__ = ["StudyReport", "write_report"]


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """All that stands in the report of a search, be it finished, running or stopped."""

    name: str
    objective_label: str
    """The first objective, such as `dev macro F1`."""
    study: optuna.Study
    """With the sampler and pruner it ran with. `tuning.study.trials` names the user attributes of its trials."""
    finals: Sequence[FinalRun] = ()
    winner: int | None = None
    """Number of the trial whose settings won."""
    winner_settings: Mapping[str, object] = field(default_factory=dict)
    """Setting to value, in the types of YAML."""
    test_scores: Mapping[str, float] | None = None
    """Of the winner: name to score."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """Whatever else should be listed: name to value."""
    other_objectives: Sequence[str] = ()
    """Names of the objectives after the first."""


def write_report(path: Path, data: StudyReport) -> Path:
    """Write the report as one HTML file and return `path`.

    All text is escaped, and the page's own policy forbids every outside request.
    Raises ValueError unless the study has one objective for each name.
    """
    import yaml
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, show=show, interval=interval, key=_sort_key, listed=narrative.listed)
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text("utf-8"))
    names = [data.objective_label, *data.other_objectives]
    plots, missing = interactive(data.study, names)
    page = template.render(
        data=data,
        dash=DASH,
        **_findings(data),
        plots=plots,
        missing=missing,
        plotly=get_plotlyjs() if plots else "",
        trials=_trial_table(data.study, names),
        settings=yaml.safe_dump(dict(data.winner_settings), sort_keys=False, allow_unicode=True),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
    return path


def _findings(data: StudyReport) -> dict[str, Any]:
    standings, found = rank(data.finals), importances(data.study)
    space = regions(data.study)
    return {
        "search": [
            narrative.searched(data.study, data.objective_label),
            *narrative.spent(data.study),
            *narrative.best(data.study, data.objective_label, standings),
            *narrative.mattered(found),
            *narrative.edges(space),
        ],
        "verdict": list(verdict(standings)),
        "finals": _final_table(data.finals, standings),
        "regions": space,
        "shares": found[0].shares,
        "failures": narrative.failures(data.study),
    }


def _final_table(finals: Sequence[FinalRun], standings: Sequence[Standing]) -> dict[str, Any]:
    seeds = sorted({run.seed for run in finals})
    rows = [
        {
            "setting": one.setting,
            "mean": Estimate(one.mean, *(one.interval or (None, None))),
            "scores": [one.scores.get(seed) for seed in seeds],
        }
        for one in standings
    ]
    return {"seeds": seeds, "rows": rows}


def _trial_table(study: optuna.Study, names: Sequence[str]) -> dict[str, Any]:
    found = study.get_trials(deepcopy=False)
    parameters = sorted({name for trial in found for name in trial.params})
    head = ["trial", "state", *names, "seconds", *parameters, "run", "cause of failure"]
    return {"head": head, "rows": [_trial_row(trial, len(names), parameters) for trial in found]}


def _trial_row(trial: FrozenTrial, objectives: int, parameters: Iterable[str]) -> list[object]:
    values = trial.values if trial.state == TrialState.COMPLETE else [None] * objectives
    return [
        trial.number,
        trials.state(trial),
        *values,
        trials.seconds(trial),
        *(trial.params.get(name) for name in parameters),
        trials.run_id(trial),
        trial.user_attrs.get(trials.Attribute.CAUSE),
    ]


def _sort_key(value: object) -> str:
    """What the page's script sorts by; empty for what is missing, which goes last either way."""
    return "" if value is None else repr(value) if isinstance(value, int | float) else str(value)
