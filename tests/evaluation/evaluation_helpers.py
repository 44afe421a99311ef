"""Labelled scores for the tests of evaluation."""

import numpy as np

from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.threshold_search import ThresholdCandidates
from trainer.evaluation.thresholds import FittedThresholds


def labelled(scores, labels, observed=None, *, kind="probabilities", names=None):
    """Scores (n, k) with every cell observed unless a mask is given, and made-up label names."""
    labels = np.asarray(labels)
    return LabelledScores(
        label_names=names or tuple(f"label {j}" for j in range(labels.shape[1])),
        scores=np.asarray(scores),
        labels=labels,
        observed=np.ones(labels.shape, dtype=bool) if observed is None else observed,
        kind=kind,
    )


def labelled_logits(logits, labels, observed=None):
    return labelled(logits, labels, observed, kind="logits")


def fit_policy(policy, scores, *, strength):
    """Thresholds (k,) of a policy, fitted on these examples."""
    return FittedThresholds.of(ThresholdCandidates.of(scores)).choose(policy, strength)
