"""Exact thresholds of the best F1, compared with a grid search with scikit-learn."""

from timeit import timeit

import numpy as np
from sklearn.metrics import f1_score

from tests.benchmarks.common.processes import alternate
from tests.benchmarks.common.tables import Row, Table
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.threshold_search import SortedScores, best_thresholds_per_label

__all__ = ["measure"]

_GRID = np.linspace(0.05, 0.8, 16)
_CALLS = 10


def measure(options, num_examples=5426, num_labels=28):
    """Return one table, on simulated scores with the size and imbalance of GoEmotions' dev split."""
    data = _simulate(num_examples, num_labels)
    functions = {
        "grid": lambda: timeit(lambda: _grid_thresholds(*data), number=1) * 1e3,
        "exact": lambda: timeit(lambda: _exact_thresholds(*data), number=_CALLS) / _CALLS * 1e3,
    }
    grid, exact = alternate(functions, options.repetitions).values()
    ours, reference = (_f1(*data, fit(*data)) for fit in (_exact_thresholds, _grid_thresholds))
    means = {"ours": [ours.mean()], "reference": [reference.mean()]}
    rows = (
        Row(measure="milliseconds, reference: grid", ours=exact, reference=grid, at_least=50),
        Row(measure="milliseconds", ours=exact, below=20),
        Row(measure="macro F1 on the fitted examples", **means, more_is_better=True, at_least=1),
        Row(measure="smallest F1 gain of a label on them", ours=[(ours - reference).min()], at_least=0),
    )
    title = (
        f"thresholds: {num_labels} labels, {num_examples:,} examples, reference: scikit-learn, {len(_GRID)} thresholds"
    )
    return [Table(title=title, rows=rows)]


def _simulate(num_examples, num_labels):
    """Return scores of a fair model, and labels: a third of the examples have the most frequent, 0.1 % the rarest."""
    rng = np.random.default_rng(0)
    frequencies = np.geomspace(0.33, 0.001, num_labels)
    labels = (rng.random((num_examples, num_labels)) < frequencies).astype(np.float32)
    logits = np.log(frequencies / (1 - frequencies)) + 2.5 * labels + rng.normal(size=labels.shape)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels


def _exact_thresholds(probabilities, labels):
    names = tuple(map(str, range(labels.shape[1])))
    observed = np.ones(labels.shape, dtype=bool)
    scores = LabelledScores(label_names=names, scores=probabilities, labels=labels, observed=observed)
    return best_thresholds_per_label(SortedScores.of(scores))


def _grid_thresholds(probabilities, labels):
    best = []
    for scores, truth in zip(probabilities.T, labels.T, strict=True):
        f1 = [f1_score(truth, scores >= threshold, zero_division=0) for threshold in _GRID]
        best.append(_GRID[np.argmax(f1)])
    return np.array(best)


def _f1(probabilities, labels, thresholds):
    return f1_score(labels, probabilities >= thresholds, average=None, zero_division=0)
