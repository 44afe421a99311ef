"""What a comparison shows, in sentences, and what to use by a stated rule."""

from collections.abc import Iterator

from trainer.evaluation.comparison import PairResult, verdict_sentence
from trainer.reporting.report import DASH
from tuning.comparison.report.content import ComparisonReport, Ranked
from tuning.comparison.report.loading import TEST

__all__ = [
    "GRAD_NORM_NOTE",
    "METRIC_NAMES",
    "RULE",
    "limits",
    "p_value",
    "recommendation",
    "unscored",
    "verdict",
    "verdicts",
]

METRIC_NAMES = {
    f"{over}_{kind}": f"{over} {'F1' if kind == 'f1' else kind}"
    for over in ("macro", "micro", "weighted")
    for kind in ("f1", "precision", "recall")
} | {"macro_ap": "macro AP", "ece": "ECE", "brier": "Brier score"}
RULE = (
    "Rule: the configuration with the highest mean score on dev, if its planned comparison with the baseline shows on "
    "test that it is better; otherwise the baseline."
)
GRAD_NORM_NOTE = (
    "Losses have other scales, so their gradient norms are no measure of quality: AdamW divides by the size of "
    "gradients, and only clipping sees them."
)


def recommendation(report: ComparisonReport) -> str:
    """Return what to use, by RULE, and why."""
    if not report.configurations:
        return "No recommendation: no run could be scored."
    baseline, best = report.baseline, _best(report)
    if baseline not in report.configurations:
        return f"No recommendation: the baseline {baseline} has no score."
    if best is None:
        return "No recommendation: no configuration has a score on dev for every seed."
    if best.configuration == baseline:
        return f"Use {baseline}: it is the baseline, and it ranks first on dev."
    return _against_baseline(report, best.configuration)


def _against_baseline(report: ComparisonReport, name: str) -> str:
    baseline, pair = report.baseline, report.pair(name, report.baseline)
    if pair is not None and pair.planned and _is_better(pair, name):
        of_one = (
            " With one seed this is about these trainings, not about their settings." if len(pair.seeds) == 1 else ""
        )
        return f"Use {name}: it ranks first on dev, and it is better than the baseline {baseline} on test.{of_one}"
    if pair is None:
        why = "no seed of it can be compared with the baseline"
    elif not pair.planned:
        why = "the plan has no comparison of it with the baseline"
    else:
        why = "test does not show that it is better than the baseline"
    return f"Use {baseline}: {name} ranks first on dev, and {why}."


def unscored(report: ComparisonReport) -> list[str]:
    """Return each failed or missing run with its cause."""
    lines = []
    for run in report.runs:
        if run.state != "finished":
            fold = f", fold {run.fold}" if run.fold else ""
            lines.append(f"{run.configuration}, seed {run.seed}{fold}: {run.state}. {run.cause}".rstrip())
    return lines


def verdicts(report: ComparisonReport) -> list[str]:
    """Return what the planned comparisons show, in sentences."""
    return list(_verdicts(report))


def limits(report: ComparisonReport) -> list[str]:
    """Return what a reader must know before relying on the result."""
    return list(_limits(report))


def _verdicts(report: ComparisonReport) -> Iterator[str]:
    if report.comparison is None:
        yield "No run could be scored, so nothing is compared."
        return
    planned = [pair for pair in report.pairs if pair.planned]
    if planned and all(pair.verdict == "equivalent" for pair in planned):
        yield "All planned pairs differ by less than the minimum effect."
    elif planned and not any(pair.verdict in ("better", "worse") for pair in planned):
        yield "The data cannot tell which configuration is best: no planned comparison shows that one is better."
    for pair in planned:
        sentence, shown = verdict_sentence(pair), p_value(pair.p_corrected)
        relation = "" if shown.startswith("<") else "= "
        yield f"{sentence} (corrected p {relation}{shown})."  # names stay as they are, so it begins in lower case
    if not planned:
        yield "No planned comparison could be made."


def verdict(pair: PairResult) -> str:
    """Return the verdict in words, for a table that has the numbers."""
    words = {
        "better": f"{pair.first} beats {pair.second}",
        "worse": f"{pair.second} beats {pair.first}",
        "equivalent": "less than the minimum effect apart",
        "not_shown": "no difference shown",
    }
    return words[pair.verdict]


def p_value(value: float | None) -> str:
    """Return a p-value for a reader, a dash where there is none."""
    if value is None:
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _limits(report: ComparisonReport) -> Iterator[str]:
    if report.comparison is None:
        return
    if report.comparison.interval_sources == "examples":
        yield (
            "A single seed: intervals and tests are over examples only. They say nothing about another training with "
            "the same settings."
        )
    elif single := report.comparison.of_one_seed:
        yield (
            f"One seed alone: {', '.join(single)}. Intervals and tests of these, and of pairs with them, are over "
            "examples only. They say nothing about another training with the same settings."
        )
    names = {frozenset(pair) for pair in report.plan.planned}
    lacking = [pair for pair in names if not any({p.first, p.second} == pair for p in report.comparison.pairs)]
    for pair in sorted(sorted(one) for one in lacking):
        yield f"The planned comparison of {' and '.join(pair)} is missing: a configuration has no run that was scored."
    if incomplete := [one.configuration for one in report.ranking if one.missing]:
        yield (
            f"Not every seed has a score: {', '.join(incomplete)}. Pairs are compared on the seeds that both have, and "
            "these configurations rank last."
        )
    if left_out := report.comparison.left_out:
        yield f"Labels without a positive, which count as F1 0 in macro averages: {', '.join(left_out)}."
    if report.data["role"] != TEST:
        yield (
            "Scores are out of fold: every example of train and dev is predicted by the run that held it out, with "
            "thresholds fitted on the other folds. Ranking and pairs use the same examples: the best of many is "
            "optimistic."
        )
    if report.data["groups"]:
        yield f"Examples are resampled in {report.data['groups']:,} groups, which belong together."
    yield from report.notes


def _best(report: ComparisonReport) -> Ranked | None:
    best = report.ranking[0] if report.ranking else None
    return best if best is not None and best.mean is not None and not best.missing else None


def _is_better(pair: PairResult, name: str) -> bool:
    return pair.verdict == ("better" if pair.first == name else "worse")
