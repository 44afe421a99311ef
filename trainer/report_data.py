"""Collects the content of the report and the model card of a training run."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from trainer.config import TrainConfig
from trainer.core import artifacts, environment
from trainer.core.settings import flatten
from trainer.data.dataset import ROLES, Dataset
from trainer.evaluation.evaluation import Evaluation
from trainer.reporting import mistakes, summary
from trainer.reporting.report import DASH, Estimate, Picture, ReportData, Sections

__all__ = ["environment_sections", "report_data", "run_note"]

_HELD_OUT = {"dev": "dev", artifacts.OUT_OF_FOLD: "each example once"}
History = Sequence[Mapping[str, float]]
_CAPTIONS = {
    "curves": "Loss, F1 on dev and learning rate over the optimizer steps",
    "per_label_f1": "F1 of each label on test, with 95 % intervals",
    "precision_recall": "Precision and recall of each label on test, with the point of its threshold",
    "thresholds": "Thresholds of each label by policy",
    "reliability": "Observed frequency against predicted probability on test",
    "label_calibration": "How far the probabilities of each label are from its frequency on test",
    "error_cooccurrence": "Labels that are predicted where another label is missed",
    "label_frequency": "Frequency of each label in train, dev and test",
}


def report_data(
    config: TrainConfig,
    folder: Path,
    dataset: Dataset,
    evaluation: Evaluation,
    history: History,
    figures: Sequence[Path],
) -> ReportData:
    """Return the content of the report of a run that has read test.

    folder: of the run, with its tables. history: rows of the training loop. figures: their files.
    """
    run_id, facts = folder.name, environment.describe()
    return ReportData(
        run_name=config.name,
        run_id=run_id,
        finished=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        computed=_computed(facts, history),
        summary=[
            *summary.in_short(evaluation),
            summary.baseline(dataset.test.labels, dataset.test.observed),
            *summary.training(history),
        ],
        headlines=summary.headlines(evaluation),
        policies=summary.policy_scores(evaluation),
        labels=summary.label_scores(evaluation),
        mistakes=mistakes.confident_mistakes(folder, "test"),
        slices=mistakes.slice_scores(folder),
        label_errors=mistakes.suspected_errors(folder),
        label_error_counts=mistakes.suspected_counts(folder),
        settings={"Data set": _data_set(dataset), "Settings that are not the defaults": _changed(config)},
        all_settings={part.name: flatten(getattr(config, part.name)) for part in fields(config)},
        overlap=_overlap(dataset),
        environment=environment_sections(facts),
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


def run_note(config: TrainConfig, evaluation: Evaluation, page: str) -> str:
    """Return what was trained and its scores as Markdown, which MLflow's page shows as the description of the run.

    page: address of the run on that page.
    """
    about = (
        f"{len(evaluation.label_names)} labels of data set {config.data.dataset}, encoder {config.model.model}, loss "
        f"{config.loss.loss}, seed {config.run.seed}."
    )
    files = {"scores": artifacts.SCORES, "labels": artifacts.PER_LABEL, "mistakes": artifacts.ERRORS}
    if evaluation.test:
        files = {"report": artifacts.REPORT, **files, "model card": artifacts.MODEL_CARD_PAGE}
    links = ", ".join(f"[{name}]({page}/artifacts/{file})" for name, file in files.items())
    return f"{_scores(evaluation)}.\n\n{about}\n\nMore: {links}"  # a table of runs shows the first words


def _scores(evaluation: Evaluation) -> str:
    if not evaluation.test:
        return summary.dev_scores(evaluation)
    # On one line: the page folds a description after five.
    lines = [line for line in summary.headlines(evaluation) if line.estimate.low is not None or "(ECE)" in line.name]
    names = [line.name.removeprefix("calibration error (").removesuffix(")") for line in lines]
    return "On test: " + ", ".join(f"{name} {_shown(line.estimate)}" for name, line in zip(names, lines, strict=True))


def _computed(facts: Mapping[str, Any], history: History) -> str:
    """Return steps, median speed and device in a line; empty for a run without training of its own."""
    speeds = [row[artifacts.TRAIN_SAMPLES_PER_SECOND] for row in history if artifacts.TRAIN_SAMPLES_PER_SECOND in row]
    if not speeds:
        return ""
    device = ", ".join(map(str, facts["gpus"])) or f"{facts.get('cpu', 'CPU')} ({facts['cpu_available']} cores)"
    return f"{history[-1]['step']:,.0f} steps, {median(speeds):,.0f} examples per second on {device}"


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "not defined"
    interval = "" if estimate.low is None else f" ({estimate.low:.3f}{DASH}{estimate.high:.3f})"
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


def environment_sections(facts: Mapping[str, Any]) -> Sections:
    """Return what `environment.describe` found, for the report: the machine, then the packages."""
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
        f"run {evaluation.origin}, which held {_HELD_OUT[evaluation.fitted_on]} out."
    ]
