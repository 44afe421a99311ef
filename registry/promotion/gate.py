"""Whether a candidate may become champion: pure arithmetic on the test rows that both have scored.

n rows, k labels. Each model is judged by the thresholds it would be served with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from registry.config import GateConfig
from trainer.evaluation import bootstrap, calibration, metrics, thresholds
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.bootstrap import PairedDifference, Resampling
from trainer.evaluation.metrics import MIN_SUPPORT

__all__ = ["Rule", "Scored", "Verdict", "compare", "open_gate"]

_LABELS_SHOWN = 5  # the reason must fit into a tag


@dataclass(frozen=True)
class Scored:
    """Probabilities of a model on test, and the thresholds (k,) it would be served with."""

    scores: LabelledScores
    thresholds: NDArray[np.float64]

    @property
    def predictions(self) -> NDArray[np.bool_]:
        """Labels predicted, (n, k)."""
        return thresholds.predict(self.scores.probabilities, self.thresholds)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.scores.label_names

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 of each label, (k,)."""
        return self._counts.f1

    @property
    def support(self) -> NDArray[np.int64]:
        """Positives of each label, (k,)."""
        return self._counts.support

    @property
    def ece(self) -> float:
        """Expected calibration error over all labels."""
        return calibration.expected_calibration_error(self.scores)

    @property
    def macro_f1(self) -> float:
        """Mean of F1 over the labels with an observed cell."""
        return self._counts.macro_f1

    @cached_property
    def _counts(self) -> metrics.Confusion:
        return metrics.confusion_counts(self.scores, self.predictions)


@dataclass(frozen=True)
class Rule:
    """One condition, and what was found."""

    name: str
    passed: bool
    found: str
    """In words, with the numbers."""
    needed: str


@dataclass(frozen=True)
class Verdict:
    """What the gate says."""

    rules: tuple[Rule, ...]
    figures: dict[str, float]
    """Scores and differences by name."""
    difference: PairedDifference | None
    """Candidate minus champion; None without a champion."""

    @property
    def accepted(self) -> bool:
        """Whether every rule is kept."""
        return all(rule.passed for rule in self.rules)

    @property
    def why(self) -> str:
        """The reason, in a sentence."""
        broken = [f"{rule.name}: {rule.found}, needed {rule.needed}" for rule in self.rules if not rule.passed]
        if broken:
            return "; ".join(broken)
        return f"{self.rules[0].name}: {self.rules[0].found}; all {len(self.rules)} rules kept"


def compare(candidate: Scored, champion: Scored, config: GateConfig) -> Verdict:
    """Judge a candidate against the champion, on the same rows in the same order."""
    difference = bootstrap.paired_bootstrap(
        candidate.scores,
        candidate.predictions,
        champion.predictions,
        Resampling(num_resamples=config.bootstrap_resamples),
    )
    rise = candidate.ece - champion.ece
    figures = {
        "macro_f1": candidate.macro_f1,
        "champion_macro_f1": champion.macro_f1,
        "delta_macro_f1": difference.difference,
        "delta_macro_f1_low": difference.low,
        "delta_macro_f1_high": difference.high,
        "p_value": difference.p_value,
        "ece": candidate.ece,
        "champion_ece": champion.ece,
    }
    gain = Rule(
        "gain in macro F1",
        difference.low > config.min_gain,
        f"{difference.difference:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f})",
        f"a lower end above {config.min_gain:+g}",
    )
    calibrated = Rule(
        "calibration error",
        rise <= config.max_ece_increase,
        f"{candidate.ece:.4f} against {champion.ece:.4f} ({rise:+.4f})",
        f"a rise of at most {config.max_ece_increase:g}",
    )
    return Verdict((gain, _drop(candidate, difference, config), calibrated), figures, difference)


def open_gate(candidate: Scored, config: GateConfig) -> Verdict:
    """Judge a first champion: by floors."""
    resampling = Resampling(num_resamples=config.bootstrap_resamples)
    intervals = bootstrap.bootstrap_intervals(candidate.scores, candidate.predictions, resampling)
    low, high = intervals.headline["macro_f1"]
    everything = np.ones_like(candidate.predictions)
    trivial = metrics.macro_f1(candidate.scores, everything)
    figures = {
        "macro_f1": candidate.macro_f1,
        "macro_f1_low": low,
        "macro_f1_high": high,
        "trivial_macro_f1": trivial,
        "ece": candidate.ece,
    }
    found = f"{candidate.macro_f1:.4f} (95 % interval {low:.4f} to {high:.4f})"
    rules = (
        Rule("macro F1", low > config.floor_macro_f1, found, f"a lower end above {config.floor_macro_f1:g}"),
        Rule("more than every label for all", low > trivial, found, f"a lower end above {trivial:.4f}"),
        Rule(
            "calibration error", candidate.ece <= config.ceiling_ece, f"{candidate.ece:.4f}", f"{config.ceiling_ece:g}"
        ),
    )
    return Verdict(rules, figures, None)


def _drop(candidate: Scored, difference: PairedDifference, config: GateConfig) -> Rule:
    frequent = [j for j, count in enumerate(candidate.support) if count >= MIN_SUPPORT]
    labels = f"{len(frequent)} labels with at least {MIN_SUPPORT} positives"
    needed = f"no fall of more than {config.max_label_drop:g} for any of {labels}"
    gaps = _gaps(difference, frequent)
    if not gaps:
        return Rule("labels that fall", True, "none is frequent enough to tell", needed)
    worst = min(gaps, key=lambda label: gaps[label])
    falling = sorted((j for j, gap in gaps.items() if gap < -config.max_label_drop), key=lambda j: gaps[j])
    falls = [f"{candidate.label_names[j]} {gaps[j]:+.3f}" for j in falling[:_LABELS_SHOWN]]
    if len(falling) > len(falls):
        falls.append(f"and {len(falling) - len(falls)} more")
    found = ", ".join(falls) or f"the most is {candidate.label_names[worst]} {gaps[worst]:+.3f}"
    return Rule("labels that fall", not falls, found, needed)


def _gaps(difference: PairedDifference, labels: Sequence[int]) -> dict[int, float]:
    found = {label: difference.per_label[label] for label in labels}
    return {label: gap[0] for label, gap in found.items() if gap is not None}
