"""Collects the content of the report and the model card of a training run."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.core import artifacts, environment
from trainer.core.settings import flatten
from trainer.data.dataset import ROLES, Dataset
from trainer.evaluation.evaluation import Evaluation
from trainer.reporting import summary
from trainer.reporting.report import Estimate, Picture, ReportData, Sections

__all__ = ["report_data", "run_note"]

_CAPTIONS = {
    "curves": "Loss, F1 on dev and learning rate over the optimizer steps",
    "per_label_f1": "F1 of each label on test, with 95 % intervals",
    "precision_recall": "Precision and recall of each label on test, with the point of its threshold",
    "thresholds": "Thresholds of each label by policy",
    "reliability": "Observed frequency against predicted probability on test",
    "error_cooccurrence": "Labels that are predicted where another label is missed",
    "label_frequency": "Frequency of each label in train, dev and test",
}


def report_data(
    config: TrainConfig, run_id: str, dataset: Dataset, evaluation: Evaluation, figures: Sequence[Path]
) -> ReportData:
    """Return the content of the report of a run that has read test. figures: their files."""
    return ReportData(
        run_name=config.name,
        run_id=run_id,
        finished=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        summary=summary.in_short(evaluation),
        headlines=summary.headlines(evaluation),
        policies=summary.policy_scores(evaluation),
        labels=summary.label_scores(evaluation),
        settings={"Data set": _data_set(dataset), "Settings that are not the defaults": _changed(config)},
        all_settings={part.name: flatten(getattr(config, part.name)) for part in fields(config)},
        overlap=_overlap(dataset),
        environment=_environment(environment.describe()),
        load_code=(
            f'import mlflow\nmodel = mlflow.pyfunc.load_model("runs:/{run_id}/{artifacts.MODEL}")\n'
            f'model.predict(["{artifacts.EXAMPLE_TEXT}"])'
        ),
        pictures=[Picture(path=path, caption=_CAPTIONS.get(path.stem, path.stem)) for path in figures],
        warnings=[
            *_retrained(evaluation),
            *summary.missing_calibration(evaluation),
            *summary.absent_labels(evaluation),
            *dataset.warnings,
        ],
    )


def run_note(evaluation: Evaluation) -> str:
    """Return the scores on test as Markdown, which MLflow's page shows as the description of the run."""
    lines = [f"- {line.name}: {_shown(line.estimate)}" for line in summary.headlines(evaluation)]
    return "\n".join(["Scores on test:", "", *lines, "", f"Details: {artifacts.REPORT} among the artifacts."])


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "not defined"
    interval = "" if estimate.low is None else f" ({estimate.low:.3f} to {estimate.high:.3f})"
    return f"{estimate.value:.3f}{interval}"


def _data_set(dataset: Dataset) -> dict[str, object]:
    examples: dict[str, object] = {f"{role} examples": len(getattr(dataset, role)) for role in ROLES}
    digests = {f"{role} digest": digest[:16] for role, digest in dataset.digests.items()}
    facts = {"source": dataset.source, "revision": dataset.revision, "licence": dataset.licence}
    return {**{name: value for name, value in facts.items() if value}, **examples, **digests}


def _changed(config: TrainConfig) -> dict[str, object]:
    defaults = flatten(TrainConfig())
    return {"preset": config.run.preset} | {
        name: value for name, value in flatten(config).items() if value != defaults[name] and name != "preset"
    }


def _overlap(dataset: Dataset) -> dict[str, object]:
    overlap = dataset.overlap
    pairs = {
        "dev examples also in train": (overlap.dev_normalised, overlap.dev_exact),
        "test examples also in train": (overlap.test_normalised, overlap.test_exact),
        "test examples also in dev": (overlap.test_in_dev_normalised, overlap.test_in_dev_exact),
    }
    counts = {
        name: f"{similar:,}, of which {exact:,} with equal text" if similar else "0"
        for name, (similar, exact) in pairs.items()
    }
    return counts | {
        "dropped from train": overlap.dropped,
        "left in train": f"{overlap.dev_left:,} of dev, {overlap.test_left:,} of test",
    }


def _environment(facts: dict[str, Any]) -> Sections:
    known = {
        "Python": facts["python"],
        "platform": facts["platform"],
        "CPU": f"{facts.get('cpu', 'unknown')}, {facts['cpu_available']} of {facts['cpu_count']} cores",
        "memory": f"{facts['memory_bytes'] / 1e9:.1f} GB",
        "GPUs": ", ".join(map(str, facts["gpus"])) or "none",
        "commit": facts.get("git_commit", "none") + (", with uncommitted changes" if facts.get("git_dirty") else ""),
        "command": facts["command"],
    }
    return {"Machine and code": known | facts["variables"], "Packages": facts["packages"]}


def _retrained(evaluation: Evaluation) -> list[str]:
    if not evaluation.origin:
        return []
    return [
        "The model was trained on dev too, so there are no scores on dev. Calibration and thresholds are those of "
        f"run {evaluation.origin}, which held dev out."
    ]
