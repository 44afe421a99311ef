"""Comparison of several systems on the same examples, over training seeds: what is better, by how much, how sure.

Intervals and p-values are those of `paired`. The p-values of the planned pairs are corrected by Holm's method, and so
are those of the labels within a pair. Other pairs are exploratory: not corrected, and marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import IntArray, LabelledScores
from trainer.evaluation.bayesian import mean_interval, metric_interval
from trainer.evaluation.comparison_results import (
    Comparison,
    LabelDifference,
    PairResult,
    System,
    SystemScores,
    Verdict,
    verdict_sentence,
)
from trainer.evaluation.exchange import Exchange
from trainer.evaluation.metrics import check_predictions
from trainer.evaluation.paired import Estimate, RunCounts, ScoreDraws, pooled_variance
from trainer.evaluation.resampling import Resampling

__all__ = [
    "Comparison",
    "LabelDifference",
    "PairResult",
    "System",
    "SystemScores",
    "Verdict",
    "compare_systems",
    "holm",
    "verdict_sentence",
]

_NUM_BAYESIAN = 1000  # draws for the interval of each run; more change its ends by less than they print


def compare_systems(  # noqa: PLR0913  # two callers in three pass no more than the first four
    scores: LabelledScores,
    systems: Sequence[System],
    *,
    planned: Sequence[tuple[str, str]] = (),
    num_planned: int | None = None,
    min_effect: float = 0.0,
    resampling: Resampling | None = None,
    groups: IntArray | None = None,
    metric: str = "macro_f1",
) -> Comparison:
    """Compare all pairs of systems; metric: a name in METRICS of `averages`.

    num_planned: pairs of the plan, where `planned` lacks those of systems without a run: no failure weakens Holm's
    correction.
    Raises SettingsError for planned pairs that are not two of the systems, DataError for predictions of other examples
    or labels, and where pairs are asked for but no seed is common to any.
    """
    resampling = resampling or Resampling(num_resamples=10_000)
    _check(scores, systems, planned, min_effect)
    runs = [(system.name, seed) for system in systems for seed in sorted(system.predictions)]
    predictions = {(system.name, seed): one for system in systems for seed, one in system.predictions.items()}
    counts = RunCounts.of(scores, [predictions[run] for run in runs], groups)
    compared = _Compared(
        scores, counts, ScoreDraws.of(counts, metric, resampling), runs, metric, resampling, groups is not None
    )
    named = [tuple(pair) for pair in planned]
    others = [pair for pair in combinations([system.name for system in systems], 2) if set(pair) not in map(set, named)]
    wanted = [(first, second) for first, second in (*named, *others)]
    possible = [pair for pair in wanted if compared.seeds(*pair)]
    if wanted and not possible:
        raise DataError(
            f"Cannot compare {wanted[0][0]} with {wanted[0][1]}: no seed is common to both. Train with the same seeds."
        )
    plan = _Plan([pair for pair in possible if pair in named], max(num_planned or 0, len(named)), min_effect)
    one_seed = all(len(system.predictions) == 1 for system in systems)
    return Comparison(
        label_names=scores.label_names,
        left_out=tuple(name for name, count in zip(scores.label_names, scores.support, strict=True) if not count),
        systems=tuple(compared.system(system.name) for system in systems),
        pairs=compared.pairs(possible, plan),
        unpaired=tuple(pair for pair in wanted if pair not in possible),
        level=resampling.level,
        num_resamples=resampling.num_resamples,
        min_effect=min_effect,
        metric=metric,
        interval_sources="examples" if one_seed else "seeds and examples",
    )


def holm(p_values: Sequence[float], count: int | None = None) -> list[float]:
    """Return the p-values corrected by Holm's method, in the same order; count: of all tests, if some have none.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.
    """
    # Not multipletests of statsmodels: it runs the garbage collector, 0.4 s for each call, once a pair.
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(count or len(order), 0, -1)[: len(order)]
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values)[order]), 1.0)
    return [float(p) for p in corrected]


@dataclass(frozen=True)
class _Plan:
    pairs: Sequence[tuple[str, str]]
    """Those that can be compared."""
    num_planned: int
    min_effect: float


@dataclass(frozen=True)
class _Difference:
    """One pair, before corrections."""

    average: Estimate
    p_permutation: float
    labels: Sequence[Estimate]
    p_mcnemar: Sequence[float | None]
    """Of each label in order."""


@dataclass(frozen=True)
class _Compared:
    """The runs of all systems, scored."""

    scores: LabelledScores
    counts: RunCounts
    draws: ScoreDraws
    runs: Sequence[tuple[str, int]]
    metric: str
    resampling: Resampling
    grouped: bool

    def seeds(self, *names: str) -> tuple[int, ...]:
        """Return the seeds that all systems of these names have."""
        return tuple(sorted(set.intersection(*({seed for one, seed in self.runs if one == name} for name in names))))

    def indices(self, name: str, seeds: Sequence[int]) -> list[int]:
        return [self.runs.index((name, seed)) for seed in seeds]

    def system(self, name: str) -> SystemScores:
        seeds = self.seeds(name)
        runs = self.indices(name, seeds)
        found = self.draws.mean(runs)
        low, high = self._interval(runs, found)
        labels = self.draws.point[runs, :-1].mean(axis=0)
        return SystemScores(
            name=name,
            seeds=seeds,
            score=found.value,
            low=low,
            high=high,
            by_seed=tuple(map(float, found.by_seed)),
            per_label=tuple(
                float(value) if count else None for value, count in zip(labels, self.scores.support, strict=True)
            ),
        )

    def _interval(self, runs: Sequence[int], found: Estimate) -> tuple[float, float]:
        """Return the mean Bayesian interval of the runs, widened by the variance between seeds."""
        few = replace(self.resampling, num_resamples=min(self.resampling.num_resamples, _NUM_BAYESIAN))
        ends = [metric_interval(self.counts.of_runs([run]), self.metric, few) for run in runs]
        return mean_interval(ends, found, self.resampling.level)

    def pairs(self, pairs: Sequence[tuple[str, str]], plan: _Plan) -> tuple[PairResult, ...]:
        found = {pair: self._difference(*pair) for pair in pairs}
        p_values = [found[pair].average.p_value for pair in plan.pairs]
        corrected = dict(zip(plan.pairs, holm(p_values, plan.num_planned), strict=True))
        # Verdicts take the variance of their own pair, as losses need not vary alike. What a design detects would jump
        # with it: one or two degrees of freedom tell little.
        several = [pair for pair in plan.pairs if len(self.seeds(*pair)) > 1] or pairs
        pooled = pooled_variance([found[pair].average for pair in several])
        return tuple(self._pair(pair, found[pair], corrected.get(pair), pooled, plan) for pair in pairs)

    def _difference(self, *pair: str) -> _Difference:
        first, second = (self.indices(name, self.seeds(*pair)) for name in pair)
        exchange = Exchange.of(self.counts, first, second, self.metric, self.resampling)
        columns = range(len(exchange.covariance))
        found = [self.draws.difference(first, second, column, exchange.covariance) for column in columns]
        exact = len(first) == 1 and not self.grouped
        p_mcnemar = [self._mcnemar(first[0], second[0], label) if exact else None for label in columns[:-1]]
        return _Difference(found[-1], exchange.p_value, found[:-1], p_mcnemar)

    def _pair(
        self,
        pair: tuple[str, str],
        found: _Difference,
        corrected: float | None,
        pooled: tuple[float, int],
        plan: _Plan,
    ) -> PairResult:
        level, average = self.resampling.level, found.average
        low, high = average.interval(level)
        effect = average.effect_size(level) or (None, None, None)
        planned = corrected is not None
        tests = plan.num_planned if planned else 1
        shown = (average.p_value if corrected is None else corrected) <= 1.0 - level
        return PairResult(
            first=pair[0],
            second=pair[1],
            planned=planned,
            num_planned=plan.num_planned,
            difference=average.value,
            low=low,
            high=high,
            p_value=average.p_value,
            p_corrected=corrected,
            p_permutation=found.p_permutation,
            effect_size=effect[0],
            effect_low=effect[1],
            effect_high=effect[2],
            detectable=average.with_variance(pooled[0]).detectable((1.0 - level) / tests),
            detectable_degrees=pooled[1] if len(average.by_seed) > 1 else 0,
            verdict=_verdict(average.value, (low, high), shown, plan.min_effect),
            seeds=self.seeds(*pair),
            per_label=self._labels(found),
        )

    def _labels(self, found: _Difference) -> tuple[LabelDifference | None, ...]:
        labels = np.flatnonzero(self.scores.support > 0).tolist()
        corrected = dict(zip(labels, holm([found.labels[label].p_value for label in labels]), strict=True))
        rows: list[LabelDifference | None] = [None] * self.scores.num_labels
        for label in labels:
            low, high = found.labels[label].interval(self.resampling.level)
            rows[label] = LabelDifference(
                difference=found.labels[label].value,
                low=low,
                high=high,
                p_value=found.labels[label].p_value,
                p_corrected=corrected[label],
                p_mcnemar=found.p_mcnemar[label],
            )
        return tuple(rows)

    def _mcnemar(self, first: int, second: int, label: int) -> float:
        """Return the exact p-value of the cells of the label that one of two runs has right; units are examples."""
        from statsmodels.stats.contingency_tables import mcnemar

        predicted = self.counts.predicted[:, [first, second], label] > 0
        right = predicted == (self.counts.positives[:, label] > 0)[:, None]
        only = [int((right[:, i] & ~right[:, 1 - i]).sum()) for i in (0, 1)]
        return float(mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue) if sum(only) else 1.0


def _verdict(difference: float, interval: tuple[float, float], shown: bool, min_effect: float) -> Verdict:
    if -min_effect <= interval[0] and interval[1] <= min_effect:
        return "equivalent"
    if not shown:
        return "not_shown"
    return "better" if difference > 0 else "worse"


def _check(
    scores: LabelledScores, systems: Sequence[System], planned: Sequence[tuple[str, str]], min_effect: float
) -> None:
    names = [system.name for system in systems]
    if not systems or len(set(names)) < len(names):
        raise SettingsError(f"`systems` must be at least one, of distinct names, got {', '.join(names) or 'none'}.")
    if not min_effect >= 0.0:
        raise SettingsError(f"`min_effect` must be at least 0, got {min_effect}.")
    for system in systems:
        if not system.predictions:
            raise DataError(f"{system.name} must have predictions of at least one seed, got none.")
        for seed, predictions in system.predictions.items():
            try:
                check_predictions(scores, predictions)
            except DataError as error:
                raise DataError(f"{system.name}, seed {seed}: {error}") from error
    for number, pair in enumerate(planned):
        repeated = set(pair) in [set(other) for other in planned[:number]]
        if len(set(pair)) != 2 or not set(pair) <= set(names) or repeated:
            raise SettingsError(
                f"`planned` must have each pair of two of the systems ({', '.join(names)}) once, "
                f"got {' against '.join(pair)}."
            )
