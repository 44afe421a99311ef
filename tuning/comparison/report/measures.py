"""What a run of a comparison took, how its probabilities are spread, and its curves over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from trainer.core import artifacts
from trainer.evaluation import thresholds
from trainer.evaluation.arrays import Array, LabelledScores
from trainer.evaluation.averages import METRICS
from trainer.evaluation.metrics import decision_scores
from trainer.tracking.event_log import read_finished
from tuning.comparison.report.loading import OWN, ScoredRun
from tuning.comparison.results import ComparedRun

__all__ = ["SWEEP", "Cost", "Curve", "cost", "imbalance_ratio", "probability_facts", "read_curve", "sweep_rows"]

SWEEP = tuple(step / 20 for step in range(2, 19))
"""Thresholds from 0.1 to 0.9."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one training took; None where the run did not count it, as those of older versions."""

    seconds: float | None
    samples: float | None
    steps: float | None
    gpu_joules: float | None
    processor_joules: float | None
    mean_grad_norm: float | None
    max_grad_norm: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The scores on dev during a training, and the norm of its gradients."""

    seconds: tuple[float, ...]
    """Of each evaluation, since the first metrics; without the time from one process of a resumed run to the metrics of
    the next."""
    scores: tuple[float, ...]
    """Macro F1 on dev."""
    steps: tuple[int, ...]
    """Of each gradient norm."""
    grad_norms: tuple[float, ...]
    total_seconds: float | None
    """Until the last event of the run, counted as `seconds`; None without a log."""


def cost(run: ComparedRun, curve: Curve) -> Cost:
    """Return what a run took: what it counted, or what its event log tells of a run of an older version."""
    found, norms = run.scores, curve.grad_norms

    def known(name: str, otherwise: float | None = None) -> float | None:
        return found.get(name, otherwise)

    return Cost(
        seconds=run.seconds if run.seconds is not None else known(artifacts.TRAIN_SECONDS, curve.total_seconds),
        samples=known(artifacts.TRAIN_SAMPLES),
        steps=known(artifacts.TRAIN_STEPS, max(curve.steps, default=None)),
        gpu_joules=known(artifacts.train_joules("gpu")),
        processor_joules=known(artifacts.train_joules("processor")),
        mean_grad_norm=known(artifacts.TRAIN_MEAN_GRAD_NORM, fmean(norms) if norms else None),
        max_grad_norm=known(artifacts.TRAIN_MAX_GRAD_NORM, max(norms, default=None)),
    )


def read_curve(folder: Path | None) -> Curve:
    """Return the curves in the event log of a run folder; empty ones where it has no log, as a downloaded run."""
    scores: list[tuple[float, float]] = []
    norms: list[tuple[int, float]] = []
    elapsed, before, last = 0.0, None, None
    for event in read_finished(folder) if folder is not None else []:
        if event.kind == "open":  # a process begins, however long after the last one ended
            before = None
        metrics, step = event.content.get("metrics"), event.content.get("step")
        if not isinstance(metrics, dict) or not isinstance(step, int):
            continue
        elapsed += 0.0 if before is None else (event.time - before) / 1000
        before = last = event.time
        if "dev/macro_f1" in metrics:
            scores.append((elapsed, metrics["dev/macro_f1"]))
        if artifacts.TRAIN_GRAD_NORM in metrics:
            norms.append((step, metrics[artifacts.TRAIN_GRAD_NORM]))
    return Curve(
        seconds=tuple(at for at, _ in scores),
        scores=tuple(score for _, score in scores),
        steps=tuple(step for step, _ in norms),
        grad_norms=tuple(norm for _, norm in norms),
        total_seconds=None if last is None else elapsed,
    )


def probability_facts(run: ScoredRun) -> dict[str, float | None]:
    """Return entropy of the probabilities and imbalance of the predictions of a run.

    prediction_entropy, raw_prediction_entropy: mean over observed cells of the entropy of a yes or no with this
    probability, in nats, with and without calibration. predicted_imbalance_ratio: predictions of the most predicted
    label divided by those of the least; None where a label is never predicted. never_predicted: number of such labels.
    """
    predicted = np.count_nonzero(run.decisions[OWN] & run.scores.observed, axis=0)[run.scores.scored]
    return {
        "prediction_entropy": _entropy(run.scores),
        "raw_prediction_entropy": _entropy(run.raw),
        "predicted_imbalance_ratio": imbalance_ratio(predicted),
        "never_predicted": int((predicted == 0).sum()),
    }


def imbalance_ratio(counts: Array) -> float | None:
    """Return the largest count divided by the smallest, None where that is 0."""
    return float(counts.max() / counts.min()) if counts.min() else None


def sweep_rows(runs: Sequence[ScoredRun]) -> list[dict[str, float | str | bool]]:
    """Return the scores of every configuration at one threshold for all labels, mean over seeds.

    Rows: configuration, calibrated, threshold, METRICS, labels_per_row.
    """
    names = list(dict.fromkeys(run.configuration for run in runs))
    return [
        {"configuration": name, "calibrated": calibrated, "threshold": at, **_mean_scores(runs, name, calibrated, at)}
        for calibrated in (True, False)
        for name in names
        for at in SWEEP
    ]


def _mean_scores(runs: Sequence[ScoredRun], name: str, calibrated: bool, at: float) -> dict[str, float]:
    found = []
    for run in runs:
        if run.configuration == name:
            scores = run.scores if calibrated else run.raw
            found.append(
                decision_scores(scores, thresholds.predict(scores.probabilities, np.full(scores.num_labels, at)))
            )
    return {metric: float(np.mean([one[metric] for one in found])) for metric in (*METRICS, "labels_per_row")}


def _entropy(scores: LabelledScores) -> float:
    chances = scores.probabilities[scores.observed]
    terms = (part * np.log(np.where(part > 0, part, 1.0)) for part in (chances, 1.0 - chances))
    return float(-sum(term.mean() for term in terms))
