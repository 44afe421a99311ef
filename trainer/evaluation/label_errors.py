"""Labels that are probably wrong in the data, found by confident learning.

The scores must be of examples that the model was not trained on: a model is sure of the labels it has learned, wrong
ones too.
"""

from __future__ import annotations

import numpy as np

from trainer.evaluation.arrays import BoolArray, FloatArray, LabelledScores

__all__ = ["label_quality", "suspected_label_errors"]

_FILTER = "confident_learning"  # of cleanlab's filters the one that names the fewest cells


def label_quality(scores: LabelledScores) -> FloatArray:
    """Return the probability that the model gives to each annotation, (n, k); NaN in unobserved cells.

    That is the probability of the label where the example has it, and of its absence elsewhere: cleanlab's
    self-confidence.
    """
    quality = np.where(scores.positives, scores.probabilities, 1.0 - scores.probabilities)
    return np.where(scores.observed, quality, np.nan)


def suspected_label_errors(scores: LabelledScores) -> BoolArray:
    """Return the cells whose annotation is probably wrong, (n, k), from probabilities of unseen examples.

    Confident learning on each label and its observed cells: a cell is suspected when the probability of the other
    annotation is above one half, and at least the mean that it has where it is given. A label whose observed cells are
    all positive or all negative has none.
    Source: Northcutt, Jiang & Chuang 2021, https://doi.org/10.1613/jair.1.12125, as in cleanlab.
    """
    from cleanlab.filter import find_label_issues  # slow to import

    suspected = np.zeros(scores.labels.shape, dtype=np.bool_)
    for label in range(scores.num_labels):
        cells = np.flatnonzero(scores.observed[:, label])
        given, likely = scores.positives[cells, label], scores.probabilities[cells, label]
        if not given.any() or given.all():
            continue
        both = np.column_stack([1.0 - likely, likely])
        suspected[cells, label] = find_label_issues(given.astype(int), both, filter_by=_FILTER, n_jobs=1)
    return suspected
