"""Cross-fitted scores of threshold policies: every example is predicted with thresholds fitted on other examples."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from trainer.core.errors import DataError, SettingsError
from trainer.evaluation.arrays import Array, BoolArray, FloatArray, IntArray, LabelledScores
from trainer.evaluation.bootstrap import Resampling, paired_standard_error
from trainer.evaluation.metrics import Confusion, confusion_counts
from trainer.evaluation.threshold_search import ThresholdCandidates
from trainer.evaluation.thresholds import POLICIES, FittedThresholds

__all__ = ["STRENGTHS", "PolicyChoice", "choose_policy", "cross_fitted_predictions", "stratified_folds"]

STRENGTHS = (5.0, 10.0, 20.0, 50.0, 100.0)
_RESAMPLING = Resampling(num_resamples=400)  # a standard error to 4 %
_SAME_SCORE = 1e-12  # sums in another order differ by rounding, about 1e-16


@dataclass(frozen=True)
class PolicyChoice:
    """The policy that cross-fitted scores favour, with the scores of all."""

    policy: str
    """The simplest of POLICIES whose score is not below the highest by more than the standard error of the gap."""
    strength: float
    """Best shrinkage strength, whether or not a policy that uses it was chosen."""
    scores: dict[str, float]
    """Policy → cross-fitted macro-F1, nested where the policy uses the strength, mean over seeds."""
    optimism: dict[str, float]
    """Policy → macro-F1 on the examples it was fitted on, minus `scores`."""
    errors: dict[str, float] = field(default_factory=dict)
    """Policy → standard error of the gap between its score and the highest; older versions had none."""


def stratified_folds(scores: LabelledScores, *, folds: int = 5, seed: int) -> IntArray:
    """Return the fold of each example (n,), 0 ≤ fold < folds, the same for the same seed and examples.

    Examples are grouped by their rarest label, shuffled within the group and dealt out in turn: fold sizes differ by at
    most one, and so do the examples of each group, which spreads the positives of rare labels evenly.
    Raises SettingsError for fewer than 2 folds, DataError for fewer examples than folds.
    """
    num_examples, num_labels = scores.labels.shape
    if folds < 2:
        raise SettingsError(f"`folds` must be at least 2, got {folds}. 5 is usual.")
    if num_examples < folds:
        raise DataError(f"The number of examples must be at least that of folds ({folds}), got {num_examples}.")
    rarity = np.argsort(np.argsort(scores.support, kind="stable"), kind="stable")  # argsort of argsort gives ranks
    rarest = np.where(scores.positives, rarity, num_labels).min(axis=1)
    order = np.lexsort((np.random.default_rng(seed).random(num_examples), rarest))  # its last key sorts first
    fold_of_example = np.empty(num_examples, dtype=np.intp)
    fold_of_example[order] = np.arange(num_examples) % folds
    return fold_of_example


def cross_fitted_predictions(
    scores: LabelledScores, policy: str, *, fold_of_example: Array, strength: float
) -> BoolArray:
    """Return predictions (n, k), those of each example with thresholds fitted on the examples of all other folds.

    fold_of_example: (n,), from stratified_folds. `strength` as in thresholds.shrunk_thresholds.
    Raises DataError unless fold_of_example has at least two folds, one for each example.
    """
    folds = np.unique(fold_of_example)
    if np.shape(fold_of_example) != (scores.num_examples,) or len(folds) < 2:
        raise DataError(
            f"`fold_of_example` must give at least two folds to {scores.num_examples} examples, "
            f"got {len(folds)} for {len(fold_of_example)}."
        )
    return _CrossFit(scores, ThresholdCandidates.of(scores), fold_of_example).predictions(policy, strength)


def choose_policy(scores: LabelledScores, *, seeds: Sequence[int], folds: int = 5) -> PolicyChoice:
    """Return the simplest policy whose cross-fitted macro-F1 is not clearly below the highest.

    Scores are averaged over one split into folds per seed. Clearly: by more than one standard error of the gap, from
    resampled examples, because with few examples the highest score is mostly luck.
    The score of a policy that uses the strength is nested: for each fold, its strength is chosen by cross-fitting
    inside the other folds. The strength that goes with the answer is the best of STRENGTHS by plain cross-fitting over
    all examples; of equals the strongest. Deterministic. Needs at least 3 folds and one seed (SettingsError) and as
    many examples with an observed cell as folds (DataError).
    """
    if folds < 3 or not seeds:  # nested: one fold is scored, one chooses the strength, the rest fit
        raise SettingsError(f"`folds` must be at least 3 and `seeds` not empty, got {folds} and {len(seeds)} seeds.")
    scores = scores.take(np.any(scores.observed, axis=1))  # so that every fold has something to score
    candidates = ThresholdCandidates.of(scores)
    splits = [_CrossFit(scores, candidates, stratified_folds(scores, folds=folds, seed=seed)) for seed in seeds]
    strength = _largest_best(np.mean([split.macro_f1_by_strength() for split in splits], axis=0))
    predictions = {
        name: [split.predictions(name, None if policy.uses_strength else strength) for split in splits]
        for name, policy in POLICIES.items()
    }
    cross_fitted = {
        name: float(np.mean([confusion_counts(scores, one).macro_f1 for one in predicted]))
        for name, predicted in predictions.items()
    }
    best = max(cross_fitted, key=lambda name: cross_fitted[name])
    errors = {
        name: paired_standard_error(scores, list(zip(predictions[best], predicted, strict=True)), _RESAMPLING)
        for name, predicted in predictions.items()
    }
    whole = FittedThresholds.of(candidates)
    fitted = {name: _count(scores, whole.choose(name, strength)).macro_f1 for name in POLICIES}
    chosen = next(name for name in POLICIES if cross_fitted[name] >= cross_fitted[best] - errors[name] - _SAME_SCORE)
    optimism = {name: fitted[name] - cross_fitted[name] for name in POLICIES}
    return PolicyChoice(chosen, strength, cross_fitted, optimism, errors)


class _CrossFit:
    """One split into folds, with thresholds fitted without one or two of them, once for all policies and strengths."""

    def __init__(self, scores: LabelledScores, candidates: ThresholdCandidates, fold_of_example: Array) -> None:
        self._scores = scores
        self._candidates = candidates
        self._fold_of_example = fold_of_example
        self._parts = {int(fold): scores.take(fold_of_example == fold) for fold in np.unique(fold_of_example)}
        self._fitted: dict[frozenset[int], FittedThresholds] = {}

    def thresholds(self, fold: int, policy: str, strength: float, left_out: int | None = None) -> FloatArray:
        """Return thresholds (k,) for the examples of `fold`, fitted without it and without `left_out`."""
        # A set: the pair of folds in either order is fitted once.
        unused = frozenset({fold} if left_out is None else {fold, left_out})
        if unused not in self._fitted:
            rest = ~np.isin(self._fold_of_example, list(unused))
            self._fitted[unused] = FittedThresholds.of(self._candidates.take(rest))
        return self._fitted[unused].choose(policy, strength)

    def predictions(self, policy: str, strength: float | None) -> BoolArray:
        """Return cross-fitted predictions (n, k).

        strength None: nested, the strength for each fold is the best by cross-fitting inside the other folds.
        """
        predicted = np.zeros(self._scores.labels.shape, dtype=bool)
        for fold, part in self._parts.items():
            inner = _largest_best(self.macro_f1_by_strength(policy, fold)) if strength is None else strength
            thresholds = self.thresholds(fold, policy, inner)
            predicted[self._fold_of_example == fold] = part.probabilities >= thresholds
        return predicted

    def macro_f1(self, policy: str, strength: float, left_out: int | None = None) -> float:
        """Return cross-fitted macro-F1 over the examples of all folds except `left_out`."""
        return _pooled_macro_f1(
            _count(part, self.thresholds(fold, policy, strength, left_out))
            for fold, part in self._parts.items()
            if fold != left_out
        )

    def macro_f1_by_strength(self, policy: str = "per_label_shrunk", left_out: int | None = None) -> list[float]:
        """Return cross-fitted macro-F1 of a policy for each of STRENGTHS."""
        return [self.macro_f1(policy, strength, left_out) for strength in STRENGTHS]


def _pooled_macro_f1(counts: Iterable[Confusion]) -> float:
    return reduce(operator.add, counts).macro_f1  # a fold without positives of a label would have F1 0 there


def _count(scores: LabelledScores, thresholds: FloatArray) -> Confusion:
    return confusion_counts(scores, scores.probabilities >= thresholds)


def _largest_best(scores: Sequence[float] | FloatArray) -> float:
    best = np.flatnonzero(np.asarray(scores) >= np.max(scores) - _SAME_SCORE)
    return STRENGTHS[int(best[-1])]
