"""Comparison of several systems on the same examples, over training seeds: what is better, by how much, how sure.

Intervals and p-values are those of `paired`. The p-values of the planned pairs are corrected by Holm's method, and so
are those of the labels within a pair. Other pairs are exploratory: not corrected, and marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import IntArray, LabelledScores
from trainer.evaluation.comparison_results import (
    Comparison,
    LabelDifference,
    PairResult,
    System,
    SystemScores,
    Verdict,
    verdict_sentence,
)
from trainer.evaluation.metrics import check_predictions
from trainer.evaluation.paired import Estimate, RunCounts, ScoreDraws, permutation_p_value
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


def compare_systems(  # noqa: PLR0913  # two callers in three pass no more than the first four
    scores: LabelledScores,
    systems: Sequence[System],
    *,
    planned: Sequence[tuple[str, str]] = (),
    min_effect: float = 0.0,
    resampling: Resampling | None = None,
    groups: IntArray | None = None,
    metric: str = "macro_f1",
) -> Comparison:
    """Compare all pairs of systems; metric: a name in METRICS of `averages`.

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
    pairs = compared.pairs(possible, {pair for pair in possible if pair in named}, min_effect)
    one_seed = any(len(system.predictions) == 1 for system in systems) or any(len(one.seeds) == 1 for one in pairs)
    return Comparison(
        label_names=scores.label_names,
        left_out=tuple(name for name, count in zip(scores.label_names, scores.support, strict=True) if not count),
        systems=tuple(compared.system(system.name) for system in systems),
        pairs=pairs,
        unpaired=tuple(pair for pair in wanted if pair not in possible),
        level=resampling.level,
        num_resamples=resampling.num_resamples,
        min_effect=min_effect,
        metric=metric,
        interval_sources="examples" if one_seed else "seeds and examples",
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected by Holm's method, in the same order.

    Source: Holm 1979, https://www.jstor.org/stable/4615733.
    """
    from statsmodels.stats.multitest import multipletests  # slow to import

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


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
        low, high = found.interval(self.resampling.level)
        labels = self.draws.point[runs, :-1].mean(axis=0)
        return SystemScores(
            name=name,
            seeds=seeds,
            score=found.value,
            low=max(low, 0.0),
            high=min(high, 1.0),
            by_seed=tuple(map(float, found.by_seed)),
            per_label=tuple(
                float(value) if count else None for value, count in zip(labels, self.scores.support, strict=True)
            ),
        )

    def pairs(
        self, pairs: Sequence[tuple[str, str]], planned: set[tuple[str, str]], min_effect: float
    ) -> tuple[PairResult, ...]:
        found = {}
        for pair in pairs:
            seeds = self.seeds(*pair)
            found[pair] = self.draws.difference(self.indices(pair[0], seeds), self.indices(pair[1], seeds))
        first = [pair for pair in pairs if pair in planned]
        corrected = dict(zip(first, holm([found[pair].p_value for pair in first]), strict=True))
        return tuple(
            self._pair(pair, found[pair], corrected.get(pair), max(len(first), 1), min_effect) for pair in pairs
        )

    def _pair(
        self, pair: tuple[str, str], found: Estimate, corrected: float | None, num_planned: int, min_effect: float
    ) -> PairResult:
        seeds, level = self.seeds(*pair), self.resampling.level
        first, second = (self.indices(name, seeds) for name in pair)
        low, high = found.interval(level)
        p_value = found.p_value if corrected is None else corrected
        effect = found.effect_size(level) or (None, None, None)
        planned = corrected is not None
        return PairResult(
            first=pair[0],
            second=pair[1],
            planned=planned,
            difference=found.value,
            low=low,
            high=high,
            p_value=found.p_value,
            p_corrected=corrected,
            p_permutation=(
                permutation_p_value(self.counts, first, second, self.metric, self.resampling) if planned else None
            ),
            effect_size=effect[0],
            effect_low=effect[1],
            effect_high=effect[2],
            detectable=found.detectable((1.0 - level) / (num_planned if planned else 1)),
            verdict=_verdict(found.value, (low, high), p_value <= 1.0 - level, min_effect),
            seeds=seeds,
            per_label=self._labels(first, second),
        )

    def _labels(self, first: Sequence[int], second: Sequence[int]) -> tuple[LabelDifference | None, ...]:
        labels = np.flatnonzero(self.scores.support > 0).tolist()
        found = {label: self.draws.difference(first, second, label) for label in labels}
        exact = len(first) == 1 and not self.grouped
        p_values = [self._mcnemar(first[0], second[0], label) if exact else found[label].p_value for label in labels]
        corrected = holm(p_values)
        rows: list[LabelDifference | None] = [None] * self.scores.num_labels
        for label, p_value, p_corrected in zip(labels, p_values, corrected, strict=True):
            low, high = found[label].interval(self.resampling.level)
            rows[label] = LabelDifference(
                difference=found[label].value, low=low, high=high, p_value=p_value, p_corrected=p_corrected
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
