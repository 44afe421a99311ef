"""The lines and tables of an evaluation that the report and the terminal share."""

from collections.abc import Mapping, Sequence

import numpy as np

from trainer.evaluation.arrays import Array
from trainer.evaluation.calibration import LIKELY
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.metrics import MIN_SUPPORT
from trainer.reporting.console import abbreviate
from trainer.reporting.report import Estimate, Headline, LabelScore, PolicyScore, interval, number

__all__ = [
    "absent_labels",
    "baseline",
    "dev_scores",
    "headlines",
    "in_short",
    "label_scores",
    "missing_calibration",
    "policy_scores",
    "training",
]

_WEAK = 0.4
_SHOWN = 5
_LEAST_SUPPORTED = 3
_RISE = 1.05  # of dev loss over its lowest value, from which on it is mentioned

_PLAIN = {
    "macro_ap": "macro average precision",
    "macro_roc_auc": "macro ROC AUC",
    "jaccard": "Jaccard (samples)",
    "hamming_loss": "Hamming loss",
}
_CALIBRATION = {
    "ece": "calibration error (ECE)",
    "ece_likely": f"calibration error of probabilities above {LIKELY:g}",
    "brier": "Brier score",
    "nll": "negative log-likelihood",
}


def in_short(evaluation: Evaluation) -> list[str]:
    """Return the result on test in a few sentences."""
    macro = _estimate(evaluation, "macro_f1")
    labels = label_scores(evaluation)
    weak = sorted(
        (row for row in labels if row.support and (row.f1.value or 0) < _WEAK), key=lambda row: row.f1.value or 0
    )
    rare = [row for row in labels if row.support < MIN_SUPPORT]
    sentences = [
        f"Macro F1 on {evaluation.split} is {number(macro.value)} (95 % interval {interval(macro)}) with the "
        f"thresholds of policy {evaluation.policy}; "
        f"micro F1 is {number(evaluation.test[evaluation.policy]['micro_f1'])}."
    ]
    if weak:
        names = abbreviate([f"{row.name} ({number(row.f1.value, 2)})" for row in weak], _SHOWN)
        sentences.append(f"F1 is below {_WEAK} for {len(weak)} of {len(labels)} labels: {names}.")
    if rare:
        sentences.append(
            f"{len(rare)} of {len(labels)} labels have fewer than {MIN_SUPPORT} positives on {evaluation.split}, so "
            "their scores are uncertain."
        )
    return sentences


def missing_calibration(evaluation: Evaluation) -> list[str]:
    """Return a warning where dev allowed no calibration."""
    reason = evaluation.calibration_choice.reason
    return [f"Probabilities are not calibrated, because {reason} on dev."] if reason else []


def baseline(labels: Array, observed: Array) -> str:
    """Return the macro F1 of a prediction of every label for every example, as a sentence. labels, observed: (n, k)."""
    positives = ((labels >= 0.5) & observed).sum(axis=0)
    # Precision is the frequency of the label, and recall is 1. A label that nobody annotated counts as 0.
    f1 = 2 * positives / np.maximum(positives + observed.sum(axis=0), 1)
    return f"For comparison: macro F1 of predicting every label for every text is {number(float(f1.mean()))}."


def training(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Return what the curves on dev say about the length of the training. history: rows of the training loop."""
    rows = [row for row in history if "dev/loss" in row and "dev/macro_f1" in row]
    if len(rows) < 2:
        return []
    best = max(rows, key=lambda row: row["dev/macro_f1"])  # the first of equal ones
    lowest, last = min(rows, key=lambda row: row["dev/loss"]), rows[-1]
    has_risen = last["dev/loss"] > _RISE * lowest["dev/loss"]
    if best is last:
        sentences = [
            f"Macro F1 on dev was best at the last evaluation{'.' if has_risen else ': more epochs may raise it.'}"
        ]
    else:
        sentences = [
            f"Macro F1 on dev was best at step {best['step']:,.0f} ({number(best['dev/macro_f1'])}) and "
            f"{number(last['dev/macro_f1'])} at the end."
        ]
    if has_risen:
        sentences.append(
            f"Dev loss rose from {number(lowest['dev/loss'])} at step {lowest['step']:,.0f} to "
            f"{number(last['dev/loss'])}, so the model overfits: try fewer epochs, `patience`, or more `dropout`."
        )
    return sentences


def absent_labels(evaluation: Evaluation) -> list[str]:
    """Return a warning for each split with labels that have no positive in it."""
    consequences = {
        "dev": "their thresholds are chosen without an example",
        "test": "their F1 counts as 0 in the macro average",
    }
    warnings = []
    for role, rows in evaluation.per_label.items():
        if names := [str(row["label"]) for row in rows if not row["support"]]:
            count = f"{len(names)} label{'s' if len(names) > 1 else ''} without a positive"
            name = evaluation.split if role == "test" else role
            warnings.append(f"{count} on {name}: {abbreviate(names, _SHOWN)}; {consequences[role]}.")
    return warnings


def headlines(evaluation: Evaluation) -> list[Headline]:
    """Return the table on top of a report: test scores under the default policy."""
    scores = evaluation.test[evaluation.policy]
    lines = [
        Headline(name="macro F1", estimate=_estimate(evaluation, "macro_f1"), remark=f"policy {evaluation.policy}"),
        Headline(name="micro F1", estimate=_estimate(evaluation, "micro_f1")),
    ]
    supported = sum(row.support >= MIN_SUPPORT for row in label_scores(evaluation))
    if supported >= _LEAST_SUPPORTED:
        lines.append(
            Headline(
                name="macro F1, frequent labels",
                estimate=_estimate(evaluation, "macro_f1_supported"),
                remark=f"{supported} of {len(evaluation.label_names)} labels: {MIN_SUPPORT} positives or more",
            )
        )
    lines += [Headline(name=plain, estimate=Estimate(scores[name])) for name, plain in _PLAIN.items() if name in scores]
    before, after = (evaluation.calibration_errors["test"][when] for when in ("before", "after"))
    return lines + [
        Headline(name=plain, estimate=Estimate(after[name]), before=before.get(name))
        for name, plain in _CALIBRATION.items()
        if name in after
    ]


def policy_scores(evaluation: Evaluation) -> list[PolicyScore]:
    """Return one line per threshold policy."""
    return [
        PolicyScore(
            name=policy,
            test_macro_f1=_estimate(evaluation, "macro_f1", policy),
            test_micro_f1=_estimate(evaluation, "micro_f1", policy),
            # With an origin the model is trained on dev, so no score there is its own.
            dev_macro_f1=None if evaluation.origin else evaluation.choice.scores[policy],
            dev_optimism=None if evaluation.origin else evaluation.choice.optimism[policy],
            chosen=policy == evaluation.policy,
        )
        for policy in evaluation.test
    ]


def label_scores(evaluation: Evaluation) -> list[LabelScore]:
    """Return one line per label, on test under the default policy, in label order."""
    return [
        LabelScore(
            name=str(row["label"]),
            support=_count(row["support"]),
            f1=Estimate(*(_number(row[name]) for name in ("f1", "f1_low", "f1_high"))),
            precision=_number(row["precision"]),
            recall=_number(row["recall"]),
            average_precision=_number(row["average_precision"]),
            threshold=_number(row["threshold"]),
            calibration_gap=Estimate(*(_number(row.get(f"calibration_gap{end}")) for end in ("", "_low", "_high"))),
        )
        for row in evaluation.per_label["test"]
    ]


def dev_scores(evaluation: Evaluation) -> str:
    """Return the final scores on dev in a sentence."""
    macro, micro = (number(evaluation.dev.get(name)) for name in ("macro_f1", "micro_f1"))
    return f"Result on dev: macro F1 {macro}, micro F1 {micro}, cross-fitted (policy {evaluation.policy})"


def _estimate(evaluation: Evaluation, name: str, policy: str | None = None) -> Estimate:
    policy = policy or evaluation.policy
    low, high = evaluation.intervals[policy].headline[name]
    return Estimate(evaluation.test[policy][name], low, high)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"support must be a count, got {value}")
    return value
