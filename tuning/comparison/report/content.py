"""Everything that the report of a comparison says, as plain values: the content of `comparison.json`."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from statistics import fmean, stdev
from typing import Any

from trainer.core import artifacts
from trainer.evaluation.bootstrap import Resampling
from trainer.evaluation.comparison import Comparison, PairResult, System, compare_systems, verdict_sentence
from tuning.comparison.report import measures
from tuning.comparison.report.estimates import ScoreRow, score_rows
from tuning.comparison.report.loading import OWN, Examples, ScoredRun, load_runs
from tuning.comparison.report.measures import Cost, Curve
from tuning.comparison.results import ComparedRun, ComparisonPlan
from tuning.finals.statistics import t_interval

__all__ = ["ComparisonReport", "Ranked", "RunRow", "build_report"]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The scores of a configuration on dev over its seeds."""

    configuration: str
    by_seed: dict[int, float]
    missing: tuple[int, ...]
    """Seeds of the plan without a score."""
    mean: float | None
    deviation: float | None
    """Standard deviation over seeds; None with fewer than two."""
    low: float | None
    high: float | None
    policies: tuple[str, ...]
    """Threshold policies that its runs chose."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One training of the comparison."""

    configuration: str
    seed: int
    fold: int
    run_id: str
    state: str
    cause: str
    reused: bool
    dev_score: float | None
    cost: Cost
    facts: dict[str, float | None]
    """Of `measures.probability_facts`; empty for a run that was not scored, and for folds after the first."""


@dataclass(frozen=True, kw_only=True)
class ComparisonReport:
    """The results of a comparison."""

    plan: ComparisonPlan
    computed: str
    """Time of the report."""
    ranking: tuple[Ranked, ...]
    """Best mean score on dev first; configurations that lack a seed last."""
    comparison: Comparison | None
    """None where fewer than one run could be scored."""
    scores: tuple[ScoreRow, ...] = ()
    sweep: tuple[dict[str, Any], ...] = ()
    runs: tuple[RunRow, ...] = ()
    curves: dict[str, Curve] = field(default_factory=dict)
    """Run id to curves."""
    data: dict[str, Any] = field(default_factory=dict)
    """role, examples, labels, groups, support by label, imbalance_ratio."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the runs, such as different code."""

    @property
    def baseline(self) -> str:
        """The configuration that the others are compared with: the first of the plan."""
        return next(iter(self.plan.configurations))

    @property
    def pairs(self) -> tuple[PairResult, ...]:
        """All pairs that were compared, the planned ones first."""
        return self.comparison.pairs if self.comparison else ()

    @property
    def configurations(self) -> list[str]:
        """Those that were scored, in the order of the ranking."""
        scored = {system.name for system in self.comparison.systems} if self.comparison else set()
        return [one.configuration for one in self.ranking if one.configuration in scored]

    def pair(self, first: str, second: str) -> PairResult | None:
        """Return the pair in the order in which it was compared, whichever is asked for."""
        return next((pair for pair in self.pairs if {pair.first, pair.second} == {first, second}), None)

    def score(self, configuration: str, policy: str, metric: str) -> ScoreRow | None:
        """Return a score on test."""
        wanted = (configuration, policy, metric)
        return next((row for row in self.scores if (row.configuration, row.policy, row.metric) == wanted), None)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON can have it: all digits, null for a number that does not exist."""
        content = asdict(self)
        content["pairs"] = [{**asdict(pair), "sentence": verdict_sentence(pair)} for pair in self.pairs]
        if content["comparison"]:
            del content["comparison"]["pairs"]
        cleaned: dict[str, Any] = _without_nan({**content, "baseline": self.baseline})
        return cleaned


def build_report(plan: ComparisonPlan, runs: Sequence[ComparedRun], *, notes: Sequence[str] = ()) -> ComparisonReport:
    """Return the results of the runs. A failed or missing run is listed with its cause and has no score.

    Raises DataError when two runs predicted other examples or labels.
    """
    examples, scored, unscored = load_runs(runs)
    models = {run.run_id: model for model in scored for run in model.runs}
    causes = {(run.configuration, run.seed, run.run_id): run for run in unscored}
    listed = [causes.get((run.configuration, run.seed, run.run_id), run) for run in runs]
    curves = {id(run): measures.read_curve(run.folder) for run in listed}
    base = ComparisonReport(
        plan=plan,
        computed=datetime.now().astimezone().isoformat(timespec="seconds"),
        ranking=_rank(plan, listed, models),
        comparison=None,
        runs=tuple(_run_row(plan, run, curves[id(run)], models.get(run.run_id)) for run in listed),
        curves={run.run_id: curves[id(run)] for run in listed if run.run_id in models},
        notes=tuple(notes),
    )
    if examples is None:
        return base
    return _with_scores(base, examples, scored)


def _with_scores(base: ComparisonReport, examples: Examples, scored: Sequence[ScoredRun]) -> ComparisonReport:
    plan, resampling = base.plan, Resampling(num_resamples=base.plan.resamples)
    names = [name for name in plan.configurations if any(run.configuration == name for run in scored)]
    systems = [
        System(name=name, predictions={run.seed: run.decisions[OWN] for run in scored if run.configuration == name})
        for name in names
    ]
    comparison = compare_systems(
        examples.labels,
        systems,
        planned=[pair for pair in plan.planned if set(pair) <= set(names)],
        num_planned=len(plan.planned),
        min_effect=plan.min_effect,
        resampling=resampling,
        groups=examples.groups,
        metric=plan.metric,
    )
    support = examples.labels.support
    return replace(
        base,
        comparison=comparison,
        scores=tuple(score_rows(examples, scored, resampling)),
        sweep=tuple(measures.sweep_rows(scored)),
        data={
            "role": examples.role,
            "examples": examples.labels.num_examples,
            "labels": list(examples.labels.label_names),
            "groups": None if examples.groups is None else int(examples.groups.max()) + 1,
            "support": support.tolist(),
            "imbalance_ratio": measures.imbalance_ratio(support[examples.labels.scored]),
        },
    )


def _rank(plan: ComparisonPlan, runs: Sequence[ComparedRun], models: Mapping[str, ScoredRun]) -> tuple[Ranked, ...]:
    found = [_ranked(plan, name, runs, models) for name in plan.configurations]
    return tuple(sorted(found, key=lambda one: (one.mean is None, bool(one.missing), -(one.mean or 0.0))))


def _ranked(plan: ComparisonPlan, name: str, runs: Sequence[ComparedRun], models: Mapping[str, ScoredRun]) -> Ranked:
    by_seed: dict[int, list[float]] = {}
    policies = Counter[str]()
    for run in runs:
        score = _dev_score(plan, run)
        if run.configuration == name and run.state == "finished" and score is not None:
            by_seed.setdefault(run.seed, []).append(score)
            policies.update([models[run.run_id].policy] if run.run_id in models else [])
    means = {seed: fmean(values) for seed, values in sorted(by_seed.items())}
    values = list(means.values())
    low, high = t_interval(values) or (None, None)
    return Ranked(
        configuration=name,
        by_seed=means,
        missing=tuple(seed for seed in plan.seeds if seed not in means),
        mean=fmean(values) if values else None,
        deviation=stdev(values) if len(values) > 1 else None,
        low=None if low is None else max(low, 0.0),
        high=None if high is None else min(high, 1.0),
        policies=tuple(policy for policy, _ in policies.most_common()),
    )


def _dev_score(plan: ComparisonPlan, run: ComparedRun) -> float | None:
    """Return the score by which runs are ranked; the run of a cross-validation has no dev of its own."""
    on_dev = artifacts.final_score(run.scores, artifacts.metric("dev", plan.metric))
    return run.scores.get(artifacts.metric(artifacts.OUT_OF_FOLD, plan.metric)) if on_dev is None else on_dev


def _run_row(plan: ComparisonPlan, run: ComparedRun, curve: Curve, model: ScoredRun | None) -> RunRow:
    is_first = model is not None and model.runs[0] is run
    return RunRow(
        configuration=run.configuration,
        seed=run.seed,
        fold=int(run.settings.get("fold", 0)),
        run_id=run.run_id,
        state=run.state,
        cause=run.cause,
        reused=run.reused,
        dev_score=_dev_score(plan, run) if run.state == "finished" else None,
        cost=measures.cost(run, curve),
        facts=measures.probability_facts(model) if model is not None and is_first else {},
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
