"""Best-F1 thresholds, exact, against a grid with scikit-learn."""

from timeit import timeit

import numpy as np
from sklearn.metrics import f1_score

from tests.benchmarks.measure import Row, Table, alternate
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.threshold_search import SortedScores, best_thresholds_per_label

__all__ = ["measure"]

_GRID = np.linspace(0.05, 0.8, 16)
_CALLS = 10


def measure(repetitions, num_rows=5426, num_labels=28):
    """One table, on made-up scores with the size and imbalance of GoEmotions' dev split."""
    data = _make_up(num_rows, num_labels)
    contenders = {
        "grid": lambda: timeit(lambda: _grid_thresholds(*data), number=1) * 1e3,
        "exact": lambda: timeit(lambda: _exact_thresholds(*data), number=_CALLS) / _CALLS * 1e3,
    }
    grid, exact = alternate(contenders, repetitions).values()
    ours, reference = (_f1(*data, fit(*data)) for fit in (_exact_thresholds, _grid_thresholds))
    means = {"ours": [ours.mean()], "reference": [reference.mean()]}
    rows = (
        Row(measure="milliseconds against the grid", ours=exact, reference=grid, at_least=50),
        Row(measure="milliseconds", ours=exact, below=20),
        Row(measure="macro-F1 on the fitted rows", **means, more_is_better=True, at_least=1),
        Row(measure="smallest F1 gain of a label there", ours=[(ours - reference).min()], at_least=0),
    )
    title = f"thresholds: {num_labels} labels, {num_rows:,} rows, reference: scikit-learn, {len(_GRID)} thresholds"
    return [Table(title=title, rows=rows)]


def _make_up(num_rows, num_labels):
    """Scores of a fair model and labels, the commonest on a third of the rows and the rarest on one in a thousand."""
    rng = np.random.default_rng(0)
    frequencies = np.geomspace(0.33, 0.001, num_labels)
    labels = (rng.random((num_rows, num_labels)) < frequencies).astype(np.float32)
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
