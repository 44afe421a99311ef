"""Chooses the examples that are scored: those whose texts no system was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.core.errors import DataError, shorten
from trainer.data.dataset import Split
from trainer.evaluating.systems import Facts
from trainer.evaluation.arrays import BoolArray, IntArray

__all__ = ["Selection", "select_examples"]

_MUCH = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The examples that are scored."""

    kept: IntArray
    """Their indices in the split, (m,)."""
    facts: Mapping[str, Any]
    """Counts by reason, for the report and evaluation.json."""
    has_seen: bool
    """Whether texts that a system was trained on are among them."""
    warnings: Sequence[str]


def select_examples(split: Split, systems: Sequence[Facts], rule: str) -> Selection:
    """Return the examples whose text no system was trained on; all of them where the rule `seen_texts` is keep.

    Raises DataError when some are refused, or none is left.
    """
    unknown = [facts.name for facts in systems if facts.seen is None]
    seen = np.zeros(len(split), dtype=np.bool_)
    counts: dict[str, Any] = {"examples of the split": len(split)}
    for facts in systems:
        if facts.seen is not None:
            in_train = facts.seen.in_train(split.texts)
            seen |= in_train
            counts[f"texts in the training data of {facts.name}"] = int(in_train.sum())
            counts[f"texts in the dev data of {facts.name}"] = int(facts.seen.in_dev(split.texts).sum())
    _check(rule, seen, unknown, split)
    kept = np.flatnonzero(~seen) if rule == "drop" else np.arange(len(split))
    warnings = [*_warnings(rule, seen, unknown), *_dev_warnings([split.texts[example] for example in kept], systems)]
    counts |= {"left out": len(split) - len(kept), "scored": len(kept)}
    if unknown:
        counts["training texts are unknown of"] = ", ".join(unknown)
    has_seen = rule == "keep" and bool(seen.any())
    return Selection(kept=kept, facts=counts, has_seen=has_seen, warnings=warnings)


def _check(rule: str, seen: BoolArray, unknown: Sequence[str], split: Split) -> None:
    count, first = int(seen.sum()), split.example_ids[int(seen.argmax())]
    if rule == "refuse" and count:
        raise DataError(
            f"{count:,} of {len(seen):,} texts are in the training data (first: {shorten(first, 40)}). Remove them, or "
            "set seen_texts=drop to leave them out."
        )
    if rule == "refuse" and unknown:
        raise DataError(
            f"Training texts are not known of {shorten(' and '.join(unknown))}, and seen_texts=refuse needs them. Set "
            "seen_texts=drop to score all the same."
        )
    if rule == "drop" and seen.all():
        raise DataError(
            f"All {count:,} texts are in the training data, so none is left to score. Choose another split, or set "
            "seen_texts=keep to score them."
        )


def _warnings(rule: str, seen: BoolArray, unknown: Sequence[str]) -> list[str]:
    warnings, count = [], int(seen.sum())
    if rule == "keep" and count:
        warnings.append(
            f"{count:,} of {len(seen):,} scored texts are in the training data, so the scores are too high."
        )
    if rule == "drop" and count:
        warnings.append(f"{count:,} of {len(seen):,} examples are left out: their texts are in the training data.")
    if rule == "drop" and count > _MUCH * len(seen):
        warnings.append("Most of the split was trained on, so the examples that are left may not be typical of it.")
    if unknown:
        warnings.append(
            f"Training texts are not known of {' and '.join(unknown)}: some of the examples may be among them."
        )
    return warnings


def _dev_warnings(texts: Sequence[str], systems: Sequence[Facts]) -> list[str]:
    """Return a warning for each system that made its choices on some of the scored texts."""
    counts = {one.name: int(one.seen.in_dev(texts).sum()) for one in systems if one.seen is not None}
    return [
        f"{count:,} of {len(texts):,} scored texts are in the dev of {name}, which chose calibration and thresholds: "
        "its scores are too high."
        for name, count in counts.items()
        if count
    ]
