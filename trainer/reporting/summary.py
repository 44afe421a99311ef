"""An outcome in the words and numbers that a person reads: the report and the terminal show the same."""

from trainer.evaluation.evaluation import Evaluation
from trainer.reporting.report import Estimate, Headline, LabelScore, PolicyScore, number

__all__ = ["dev_scores", "headlines", "label_scores", "policy_scores"]

_PLAIN = {
    "macro_ap": "macro average precision",
    "macro_roc_auc": "macro ROC AUC",
    "jaccard": "Jaccard (samples)",
    "hamming_loss": "Hamming loss",
}


def headlines(outcome: Evaluation) -> list[Headline]:
    """The table on top of a report: test scores under the default policy."""
    scores = outcome.test[outcome.policy]
    lines = [
        Headline(name="macro F1", estimate=_estimate(outcome, "macro_f1"), remark=f"policy {outcome.policy}"),
        Headline(name="micro F1", estimate=_estimate(outcome, "micro_f1")),
    ]
    if "macro_f1_supported" in scores:
        lines.append(
            Headline(
                name="macro F1, frequent labels",
                estimate=_estimate(outcome, "macro_f1_supported"),
                remark="labels with at least 40 test rows",
            )
        )
    lines += [Headline(name=plain, estimate=Estimate(scores[name])) for name, plain in _PLAIN.items() if name in scores]
    stages = outcome.calibration["test"]
    return lines + [
        Headline(name=plain, estimate=Estimate(stages["after"][name]), before=stages["before"][name])
        for name, plain in (("ece", "calibration error (ECE)"), ("brier", "Brier score"))
    ]


def policy_scores(outcome: Evaluation) -> list[PolicyScore]:
    """One line per threshold policy."""
    return [
        PolicyScore(
            name=policy,
            test_macro_f1=_estimate(outcome, "macro_f1", policy),
            test_micro_f1=_estimate(outcome, "micro_f1", policy),
            dev_macro_f1=None if outcome.origin else outcome.choice.scores[policy],
            dev_optimism=None if outcome.origin else outcome.choice.optimism[policy],
            chosen=policy == outcome.policy,
        )
        for policy in outcome.test
    ]


def label_scores(outcome: Evaluation) -> list[LabelScore]:
    """One line per label, on test under the default policy, in label order."""
    return [
        LabelScore(
            name=str(row["label"]),
            support=_count(row["support"]),
            f1=Estimate(*(_number(row[name]) for name in ("f1", "f1_low", "f1_high"))),
            precision=_number(row["precision"]),
            recall=_number(row["recall"]),
            average_precision=_number(row["average_precision"]),
            threshold=_number(row["threshold"]),
        )
        for row in outcome.per_label["test"]
    ]


def dev_scores(outcome: Evaluation) -> str:
    """The scores on dev in a sentence."""
    macro, micro = (number(outcome.dev.get(name)) for name in ("macro_f1", "micro_f1"))
    return f"Result on dev: macro F1 {macro}, micro F1 {micro}, cross-fitted (policy {outcome.policy})"


def _estimate(outcome: Evaluation, name: str, policy: str | None = None) -> Estimate:
    policy = policy or outcome.policy
    low, high = outcome.intervals[policy].headline[name]
    return Estimate(outcome.test[policy][name], low, high)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"support must be a count, but got {value=}.")
    return value
