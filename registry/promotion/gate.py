"""All rules of the gate: whether a candidate may become champion.

n examples, k labels. Each model is judged by the thresholds that it is served with.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from registry.config import CheckConfig, GateConfig
from registry.promotion.model_check import ModelCheck
from trainer.evaluation import bootstrap, metrics, thresholds
from trainer.evaluation.arrays import BoolArray, LabelledScores
from trainer.evaluation.bootstrap import Resampling
from trainer.evaluation.calibration import LIKELY, expected_calibration_error, likely_calibration_error
from trainer.evaluation.calibration_bootstrap import likely_error, likely_error_rise
from trainer.evaluation.comparison import compare_systems
from trainer.evaluation.comparison_results import LabelDifference, PairResult, System
from trainer.evaluation.metrics import MIN_SUPPORT

__all__ = ["ModelScores", "Rule", "SeedPredictions", "Verdict", "check_rules", "compare", "judge_first", "leak_rule"]

_LABELS_SHOWN, _SEEDS_SHOWN = 5, 10  # the reason must fit into a tag


@dataclass(frozen=True)
class ModelScores:
    """Calibrated probabilities of a model on test, and the thresholds (k,) that it is served with."""

    scores: LabelledScores
    thresholds: NDArray[np.float64]

    @property
    def predictions(self) -> NDArray[np.bool_]:
        """Predicted labels, (n, k)."""
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
    def macro_f1(self) -> float:
        """Mean F1 of the labels with an observed cell."""
        return self._counts.macro_f1

    @cached_property
    def _counts(self) -> metrics.Confusion:
        return metrics.confusion_counts(self.scores, self.predictions)


@dataclass(frozen=True)
class Rule:
    """One condition and its outcome."""

    name: str
    passed: bool
    value: str
    """Measured, with its unit."""
    required: str


@dataclass(frozen=True)
class Verdict:
    """Outcome of the gate."""

    rules: tuple[Rule, ...]
    figures: dict[str, float]
    """Scores and differences by name."""
    difference: PairResult | None
    """Candidate minus champion; None without a champion."""

    @property
    def accepted(self) -> bool:
        """True when every rule passed."""
        return all(rule.passed for rule in self.rules)

    @property
    def why(self) -> str:
        """The reason, in a sentence."""
        failed = [f"{rule.name}: {rule.value}, required {rule.required}" for rule in self.rules if not rule.passed]
        if failed:
            return "; ".join(failed)
        return f"{self.rules[0].name}: {self.rules[0].value}; all {len(self.rules)} rules passed"


@dataclass(frozen=True)
class SeedPredictions:
    """Predictions (n, k) on test of finished runs that differ from candidate or champion in their seed, by seed."""

    candidate: Mapping[int, BoolArray]
    """With those of the candidate itself."""
    champion: Mapping[int, BoolArray] = field(default_factory=dict)
    """With those of the champion itself; empty without a champion."""


def compare(
    candidate: ModelScores, champion: ModelScores, config: GateConfig, seeds: SeedPredictions | None = None
) -> Verdict:
    """Judge a candidate against the champion, on the same examples in the same order.

    seeds: what the rules of `min_seeds` judge; None where it is 1.
    """
    difference = _difference(candidate.scores, {0: candidate.predictions}, {0: champion.predictions}, config)
    figures = {
        "macro_f1": candidate.macro_f1,
        "champion_macro_f1": champion.macro_f1,
        "delta_macro_f1": difference.difference,
        "delta_macro_f1_low": difference.low,
        "delta_macro_f1_high": difference.high,
        "p_value": difference.p_value,
    } | _calibration_figures(candidate, champion)
    rules = [_gain_rule("macro-F1 gain", difference, config)]
    if seeds is not None:
        rules.append(_seeds_rule(seeds, config))
        if rules[-1].passed:
            over_seeds, against = _difference_over_seeds(candidate, champion, seeds, config)
            rules.append(_gain_rule("macro-F1 gain over seeds", over_seeds, config, against))
            figures |= _seed_figures(over_seeds)
    rules += [_drop_rule(candidate, difference, config), _calibration_rule(candidate, champion, config)]
    return Verdict(tuple(rules), figures, difference)


def judge_first(candidate: ModelScores, config: GateConfig, seeds: SeedPredictions | None = None) -> Verdict:
    """Judge a first champion, which has nothing to be compared with, by floors; of its seeds only the number."""
    resampling = Resampling(num_resamples=config.bootstrap_resamples)
    intervals = bootstrap.bootstrap_intervals(candidate.scores, candidate.predictions, resampling)
    low, high = intervals.headline["macro_f1"]
    every_label = np.ones_like(candidate.predictions)
    trivial = metrics.macro_f1(candidate.scores, every_label)  # passes the floor where labels are frequent
    figures = {
        "macro_f1": candidate.macro_f1,
        "macro_f1_low": low,
        "macro_f1_high": high,
        "trivial_macro_f1": trivial,
    } | _calibration_figures(candidate)
    value = f"{candidate.macro_f1:.4f} (95 % interval {low:.4f} to {high:.4f})"
    rules = (
        Rule("macro F1", low > config.floor_macro_f1, value, f"lower end above {config.floor_macro_f1:g}"),
        Rule("better than predicting every label", low > trivial, value, f"lower end above {trivial:.4f}"),
        *([_seeds_rule(seeds, config)] if seeds is not None else []),
        _calibration_rule(candidate, None, config),
    )
    return Verdict(rules, figures, None)


def leak_rule(left_in_train: Mapping[str, int]) -> Rule:
    """Judge how many examples of dev and test are in train. left_in_train: the counts in dataset.json, by role."""
    count = sum(left_in_train.values())
    return Rule("no leak", count == 0, f"{count} examples of dev and test are in train", "0")


def check_rules(check: ModelCheck | str, config: CheckConfig) -> tuple[Rule, ...]:
    """Judge the check of the saved model. check: the measurements, or the reason why there are none."""
    loads = "loads with pickle refused, and answers"
    if isinstance(check, str):
        return (Rule("loads", False, check, loads),)
    served = list(check.setting_differences)
    if check.label_differences:
        served.append(f"{check.label_differences} labels of {check.examples:,} examples differ")
    return (
        Rule("loads", True, f"in {check.load_seconds:.1f} s", loads),
        Rule(
            "code",
            config.allow_foreign_code or not check.foreign_code,
            check.foreign_code or "of this project",
            "any (allow_foreign_code=true)" if config.allow_foreign_code else "of this project",
        ),
        Rule(
            "probabilities",
            check.score_difference <= config.max_score_difference,
            f"differ by at most {check.score_difference:.1e} from the run's, on {check.examples:,} test examples",
            f"at most {config.max_score_difference:g}",
        ),
        Rule(
            "served as judged",
            not served,
            "; ".join(served) or "same calibration, thresholds and labels",
            "calibration, thresholds and labels of the run",
        ),
        Rule(
            "latency p95",
            check.latency_ms_p95 <= config.max_latency_ms,
            f"{check.latency_ms_p95:.0f} ms (median {check.latency_ms_p50:.0f} ms)",
            f"at most {config.max_latency_ms:g} ms",
        ),
        Rule(
            "model size",
            check.size_mb <= config.max_size_mb,
            f"{check.size_mb:,.1f} MB",
            f"at most {config.max_size_mb:g} MB",
        ),
    )


def _difference(
    scores: LabelledScores,
    candidate: Mapping[int, BoolArray],
    champion: Mapping[int, BoolArray],
    config: GateConfig,
) -> PairResult:
    """Return macro-F1 of the candidate's predictions, by seed, minus that of the champion's with the same seeds."""
    systems = [System(name="candidate", predictions=candidate), System(name="champion", predictions=champion)]
    return compare_systems(scores, systems, resampling=Resampling(num_resamples=config.bootstrap_resamples)).pairs[0]


def _difference_over_seeds(
    candidate: ModelScores, champion: ModelScores, seeds: SeedPredictions, config: GateConfig
) -> tuple[PairResult, str]:
    """Return the difference over the candidate's seeds, and what stood for the champion, in words."""
    common = seeds.candidate.keys() & seeds.champion.keys()
    if len(common) >= config.min_seeds:
        return _difference(candidate.scores, seeds.candidate, seeds.champion, config), "the champion's same seeds"
    same_model = dict.fromkeys(seeds.candidate, champion.predictions)
    return _difference(candidate.scores, seeds.candidate, same_model, config), "the champion's one model"


def _gain_rule(name: str, difference: PairResult, config: GateConfig, against: str = "") -> Rule:
    of_seeds = f" over seeds {_listed(difference.seeds)} and examples, against {against}," if against else ""
    return Rule(
        name,
        difference.low > config.min_gain,  # not the difference itself, which may be luck of the test examples
        f"{difference.difference:+.4f} (95 % interval{of_seeds} {difference.low:+.4f} to {difference.high:+.4f})",
        f"lower end above {config.min_gain:+g}",
    )


def _seeds_rule(seeds: SeedPredictions, config: GateConfig) -> Rule:
    found, missing = sorted(seeds.candidate), config.min_seeds - len(seeds.candidate)
    required = f"at least {config.min_seeds}"
    if missing > 0:
        unused = itertools.islice((seed for seed in itertools.count(found[0]) if seed not in found), missing)
        required += f"; train the candidate's settings again with {', '.join(f'-P seed={seed}' for seed in unused)}"
    return Rule(
        "seeds", missing <= 0, f"{len(found)} finished with the candidate's settings ({_listed(found)})", required
    )


def _seed_figures(difference: PairResult) -> dict[str, float]:
    return {
        "num_seeds": float(len(difference.seeds)),
        "delta_macro_f1_over_seeds": difference.difference,
        "delta_macro_f1_over_seeds_low": difference.low,
        "delta_macro_f1_over_seeds_high": difference.high,
    }


def _listed(seeds: Sequence[int]) -> str:
    shown = ", ".join(map(str, seeds[:_SEEDS_SHOWN]))
    return shown if len(seeds) <= _SEEDS_SHOWN else f"{shown} and {len(seeds) - _SEEDS_SHOWN} more"


def _calibration_rule(candidate: ModelScores, champion: ModelScores | None, config: GateConfig) -> Rule:
    """Fail when the whole interval lies above the limit: with few examples the error of a calibrated model is not 0.

    Only probabilities above LIKELY count: over all, a model that answers 0 to everything has a small error.
    """
    resampling = Resampling(num_resamples=config.bootstrap_resamples)
    found = likely_error(candidate.scores, resampling)
    rise = likely_error_rise(candidate.scores, champion.scores, resampling) if champion else None
    # A champion without such a probability leaves the candidate to the limit of a first one.
    shown, limit = (found, config.ceiling_ece) if rise is None else (rise, config.max_ece_increase)
    name = f"{'' if rise is None else 'the rise of '}ECE of probabilities above {LIKELY:g}"
    required = f"lower end of {name} at most {limit:g}"
    if found is None or shown is None:
        return Rule("calibration error", False, f"no probability above {LIKELY:g}", required)
    value = f"{shown.value:.4f} (95 % interval, corrected for few examples, {shown.low:.4f} to {shown.high:.4f})"
    return Rule("calibration error", shown.low <= limit, value, required)


def _calibration_figures(candidate: ModelScores, champion: ModelScores | None = None) -> dict[str, float]:
    models = {"": candidate} | ({"champion_": champion} if champion else {})
    errors = {
        f"{prefix}{name}": measure(model.scores)
        for prefix, model in models.items()
        for name, measure in (("ece", expected_calibration_error), ("ece_likely", likely_calibration_error))
    }
    return {name: value for name, value in errors.items() if value is not None}


def _drop_rule(candidate: ModelScores, difference: PairResult, config: GateConfig) -> Rule:
    """Fail when the whole interval of a frequent label lies below the limit: a point estimate there is mostly noise."""
    frequent = [label for label, count in enumerate(candidate.support) if count >= MIN_SUPPORT]
    required = (
        f"upper end at or above {-config.max_label_drop:g} for every label with {MIN_SUPPORT} positives or more "
        f"(here {len(frequent)})"
    )
    gaps = {label: gap for label in frequent if (gap := difference.per_label[label]) is not None}
    if not gaps:
        return Rule("F1 drop per label", True, "no label is frequent enough", required)
    ordered = sorted(gaps, key=lambda label: gaps[label].high)
    falling = [label for label in ordered if gaps[label].high < -config.max_label_drop]
    shown = [_shown_gap(candidate.label_names[label], gaps[label]) for label in falling[:_LABELS_SHOWN]]
    if len(falling) > len(shown):
        shown.append(f"and {len(falling) - len(shown)} more")
    lowest = _shown_gap(candidate.label_names[ordered[0]], gaps[ordered[0]])
    return Rule("F1 drop per label", not falling, ", ".join(shown) or f"lowest: {lowest}", required)


def _shown_gap(name: str, gap: LabelDifference) -> str:
    return f"{name} {gap.difference:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
