"""The report of a comparison as one self-contained HTML page, which needs no network."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from trainer.evaluation.averages import METRICS
from trainer.reporting.page import page_environment
from trainer.reporting.report import DASH, interval, number, show
from tuning.comparison.report import narrative
from tuning.comparison.report.content import ComparisonReport, RunRow
from tuning.comparison.report.estimates import ANY_POLICY
from tuning.comparison.report.figures import CAPTIONS
from tuning.comparison.report.loading import TEST

__all__ = ["write_page"]

_DPI, _CSS_DPI = 144, 96
_JOULES_PER_WH = 3600.0
_LEVEL = 0.05


def write_page(path: Path, report: ComparisonReport, pictures: Sequence[Path]) -> Path:
    """Write the page and return `path`. pictures: the figures that were drawn. All text is escaped."""
    environment = page_environment(Path(__file__).parent)
    environment.filters.update(
        number=number,
        show=show,
        interval=interval,
        signed=_signed,
        count=_count,
        p_value=narrative.p_value,
        verdict=narrative.verdict,
    )
    page = environment.get_template("comparison.html.j2").render(
        report=report,
        dash=DASH,
        metric=narrative.METRIC_NAMES[report.plan.metric],
        names=narrative.METRIC_NAMES,
        pictures={one.name: _embed(one) for one in pictures},
        **_sentences(report),
        **_tables(report),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
    return path


def _sentences(report: ComparisonReport) -> dict[str, Any]:
    return {
        "verdicts": narrative.verdicts(report),
        "advice": narrative.recommendation(report),
        "rule": narrative.RULE,
        "limits": narrative.limits(report),
        "unscored": narrative.unscored(report),
        "grad_norm_note": narrative.GRAD_NORM_NOTE,
        "sources": report.comparison.interval_sources if report.comparison else "examples",
        "role": report.data.get("role", TEST),
        "facts": _facts(report),
    }


def _tables(report: ComparisonReport) -> dict[str, Any]:
    known = {row.metric for row in report.scores if row.policy == ANY_POLICY}
    runs = [run for run in report.runs if run.state == "finished"]
    return {
        "planned": [pair for pair in report.pairs if pair.planned],
        "exploratory": [pair for pair in report.pairs if not pair.planned],
        "policies": list(dict.fromkeys(row.policy for row in report.scores if row.policy != ANY_POLICY)),
        "decision_metrics": METRICS,
        "probability_metrics": [name for name in ("macro_ap", "ece", "brier") if name in known],
        "shown_labels": _shown_labels(report),
        "sweep_best": _sweep_best(report),
        "has_one_seed": any(len(pair.seeds) == 1 for pair in report.pairs if pair.planned),
        "detectable_degrees": max((pair.detectable_degrees for pair in report.pairs), default=0),
        "imbalance": report.data.get("imbalance_ratio"),
        "costs": [_cost(name, [run for run in runs if run.configuration == name]) for name in _names(report)],
        "spread": [_spread(name, [run for run in runs if run.configuration == name]) for name in _names(report)],
        "has_energy": any(run.cost.gpu_joules or run.cost.processor_joules for run in runs),
        "has_folds": any(run.fold for run in report.runs),
    }


def _names(report: ComparisonReport) -> list[str]:
    return [one.configuration for one in report.ranking]


def _facts(report: ComparisonReport) -> dict[str, object]:
    plan, compared = report.plan, report.comparison
    return {
        "metric": narrative.METRIC_NAMES[plan.metric],
        "planned pairs": ", ".join(f"{first} - {second}" for first, second in plan.planned),
        "minimum effect": plan.min_effect,
        "seeds": list(plan.seeds),
        "resamples": plan.resamples,
        "written": plan.written,
        **({"intervals over": compared.interval_sources} if compared else {}),
        **({f"{report.data['role']} examples": report.data["examples"]} if report.data else {}),
        **({"labels": len(report.data["labels"])} if report.data else {}),
    }


def _cost(name: str, runs: Sequence[RunRow]) -> dict[str, Any]:
    def total(read: Callable[[RunRow], float | None]) -> float | None:
        return _over(sum, (read(run) for run in runs))

    gpu, processor = total(lambda run: run.cost.gpu_joules), total(lambda run: run.cost.processor_joules)
    return {
        "configuration": name,
        "runs": len(runs),
        "seconds": total(lambda run: run.cost.seconds),
        "mean_seconds": _over(fmean, (run.cost.seconds for run in runs)),
        "samples": _over(fmean, (run.cost.samples for run in runs)),
        "steps": _over(fmean, (run.cost.steps for run in runs)),
        "gpu": None if gpu is None else gpu / _JOULES_PER_WH,
        "processor": None if processor is None else processor / _JOULES_PER_WH,
    }


def _spread(name: str, runs: Sequence[RunRow]) -> dict[str, Any]:
    facts = [run.facts for run in runs if run.facts]
    columns = ("prediction_entropy", "raw_prediction_entropy", "predicted_imbalance_ratio", "never_predicted")
    return {
        "configuration": name,
        **{column: _over(fmean, (one[column] for one in facts)) for column in columns},
        "mean_grad_norm": _over(fmean, (run.cost.mean_grad_norm for run in runs)),
        "max_grad_norm": _over(max, (run.cost.max_grad_norm for run in runs)),
    }


def _over(reduce: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    """Return what `reduce` makes of the values; None where one is unknown, because the rest would be too few."""
    known = list(values)
    there = [value for value in known if value is not None]
    return reduce(there) if there and len(there) == len(known) else None


def _shown_labels(report: ComparisonReport) -> list[str]:
    found = []
    for name in report.configurations:
        pair = report.pair(name, report.baseline)
        for label, gap in zip(report.data["labels"], pair.per_label if pair else (), strict=False):
            if pair is not None and gap is not None and gap.p_corrected < _LEVEL:
                difference = gap.difference if pair.first == name else -gap.difference
                found.append(f"{label} {_signed(difference)} with {name}")
    return found


def _sweep_best(report: ComparisonReport) -> list[dict[str, Any]]:
    def best(name: str, *, calibrated: bool) -> Mapping[str, Any]:
        rows = [row for row in report.sweep if row["configuration"] == name and row["calibrated"] == calibrated]
        return max(rows, key=lambda row: row["macro_f1"])

    return [
        {"name": name, "raw": best(name, calibrated=False), "calibrated": best(name, calibrated=True)}
        for name in report.configurations
    ]


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{value:+.3f}"


def _count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def _embed(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    width = int.from_bytes(content[16:20]) * _CSS_DPI // _DPI  # the first chunk of every PNG has its width
    return {"data": base64.b64encode(content).decode("ascii"), "width": width, "caption": CAPTIONS[path.name]}
