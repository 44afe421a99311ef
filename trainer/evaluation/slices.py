"""Scores of slices: examples with texts of similar length, with as many labels, or with the same cell in a column."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trainer.evaluation.arrays import BoolArray, IntArray, LabelledScores
from trainer.evaluation.bootstrap import bootstrap_intervals
from trainer.evaluation.metrics import LabelRow, decision_scores
from trainer.evaluation.resampling import Resampling

__all__ = ["FEW_EXAMPLES", "Slicing", "by_column", "by_length", "by_num_labels", "slice_rows", "slicings"]

FEW_EXAMPLES = 50
"""A slice with fewer examples is marked, because its scores say little."""
_FEWEST_GROUPS = 10
"""Fewest groups of a slice for an interval: of one group, every resample has the same score."""
_MOST_SLICES = 12
_WORDS = (1, 5, 9, 17, 33, 65, 129, 257)  # fewest words of each slice: the same for every data set, so runs compare
_MOST_LABELS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Slicing:
    """One way to divide n examples into slices."""

    name: str
    """What the examples of a slice have in common."""
    slices: tuple[str, ...]
    """Names of the slices, in order."""
    slice_of_example: IntArray
    """Number of the slice of each example, (n,); -1 for an example that is in none."""


def slicings(
    scores: LabelledScores, texts: Sequence[str], columns: Mapping[str, Sequence[str]] | None = None
) -> list[Slicing]:
    """Return the slicings of n examples: all together, by length, by number of labels, and by each kept column."""
    whole = Slicing(name="all", slices=("all",), slice_of_example=np.zeros(scores.num_examples, dtype=np.intp))
    by_columns = [by_column(name, cells) for name, cells in (columns or {}).items()]
    return [whole, by_length(texts), by_num_labels(scores), *by_columns]


def by_length(texts: Sequence[str]) -> Slicing:
    """Return slices of texts with 1-4, 5-8, 9-16, 17-32, … words, which white space separates."""
    places = [bisect_right(_WORDS, max(len(text.split()), 1)) - 1 for text in texts]
    names = [f"{low}-{high - 1}" for low, high in pairwise(_WORDS)]
    return _filled("words", [*names, f"{_WORDS[-1]} or more"], places)


def by_num_labels(scores: LabelledScores) -> Slicing:
    """Return slices of examples with 0, 1, 2, 3 or more labels; an example without annotation is in none."""
    places = np.minimum(scores.positives.sum(axis=1), _MOST_LABELS)
    names = [*map(str, range(_MOST_LABELS)), f"{_MOST_LABELS} or more"]
    return _filled("number of labels", names, np.where(scores.observed.any(axis=1), places, -1).tolist())


def by_column(name: str, cells: Sequence[str]) -> Slicing:
    """Return one slice per distinct cell, the most frequent first.

    Of more than 12 distinct cells, at most 11 with FEW_EXAMPLES examples have slices of their own, and the others share
    the last slice: identifiers make one slice, whose name says so.
    """
    counts = Counter(cells).most_common()
    own = counts
    if len(counts) > _MOST_SLICES:
        own = [(cell, count) for cell, count in counts if count >= FEW_EXAMPLES][: _MOST_SLICES - 1]
    place = {cell: number for number, (cell, _) in enumerate(own)}
    names = [cell or "(empty)" for cell in place]
    rest = f"{len(counts) - len(own):,} {'other ' if own else 'different '}cells"
    return _filled(name, [*names, rest], [place.get(cell, len(own)) for cell in cells])


def slice_rows(
    scores: LabelledScores,
    predictions: BoolArray,
    slicing: Slicing,
    resampling: Resampling | None = None,
    groups: IntArray | None = None,
) -> list[LabelRow]:
    """Return one row per slice, in order, for probabilities and predictions (n, k).

    groups: (n,), examples with the same number are drawn together for the intervals; a slice of fewer than 10 groups
    has none.
    Keys: slice_by, slice, examples, few (fewer than FEW_EXAMPLES), macro_f1 and micro_f1 with _low and _high,
    positives, labels (those with a positive in the slice; macro_f1 is over these), subset_accuracy, labels_per_row
    (predicted).
    Scores that do not exist are None: both F1 of a slice without a positive, where they could only be 0.
    """
    rows = []
    for number, name in enumerate(slicing.slices):
        examples = slicing.slice_of_example == number
        count = int(examples.sum())
        within = None if groups is None else groups[examples]
        row: LabelRow = {"slice_by": slicing.name, "slice": name, "examples": count, "few": count < FEW_EXAMPLES}
        rows.append(row | _scores(scores.take(examples), predictions[examples], resampling, within))
    return rows


def _filled(name: str, slices: Sequence[str], places: Sequence[int]) -> Slicing:
    """Return the slicing without its empty slices."""
    filled = sorted(set(places) - {-1})
    numbers = {place: number for number, place in enumerate(filled)}
    of_example = np.array([numbers.get(place, -1) for place in places], dtype=np.intp)
    return Slicing(name=name, slices=tuple(slices[place] for place in filled), slice_of_example=of_example)


def _scores(
    scores: LabelledScores, predictions: BoolArray, resampling: Resampling | None, groups: IntArray | None
) -> LabelRow:
    support = scores.support
    row: LabelRow = dict.fromkeys(f"{name}{end}" for name in ("macro_f1", "micro_f1") for end in ("", "_low", "_high"))
    if support.any():
        # The false positives of labels without a positive count in the micro average, not in the macro average.
        of_labels = scores.keep(np.broadcast_to(support > 0, scores.labels.shape))
        has_interval = groups is None or len(np.unique(groups)) >= _FEWEST_GROUPS
        for name, part in (("macro_f1", of_labels), ("micro_f1", scores)):
            row[name] = decision_scores(part, predictions)[name]
            if has_interval:
                ends = bootstrap_intervals(part, predictions, resampling, groups=groups).headline[name]
                row |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    row |= {"positives": int(support.sum()), "labels": int((support > 0).sum())}
    if scores.observed.any():
        averages = decision_scores(scores, predictions)
        row |= {name: averages[name] for name in ("subset_accuracy", "labels_per_row")}
    return row
