"""Collects the content of the report of an evaluation."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.core import artifacts, environment
from trainer.core.settings import flatten
from trainer.data.sources import LoadedSplit
from trainer.evaluating.config import EvaluateConfig
from trainer.evaluating.judging import Judged
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.label_mapping import LabelMapping
from trainer.report_data import environment_sections
from trainer.reporting import mistakes, summary
from trainer.reporting.console import abbreviate
from trainer.reporting.report import Picture, ReportData

__all__ = ["facts", "label_warnings", "pictures", "report_data", "run_note"]

_CAPTIONS = {
    "per_label_f1": "F1 of each label, with 95 % intervals",
    "precision_recall": "Precision and recall of each label, with the point of its predictions",
    "reliability": "Observed frequency against predicted probability",
    "label_calibration": "How far the probabilities of each label are from its frequency",
    "error_cooccurrence": "Labels that are predicted where another label is missed",
    "label_frequency": "Frequency of each label",
}
_POLICY_NOTE = "The thresholds are those of the model, chosen on its own dev data; nothing was fitted here."
_FILE_NOTE = "The decisions are those of the file, or its probabilities at the threshold; nothing was fitted here."
_OVERLAP_NOTE = (
    "Texts that the model has seen, without regard to case and punctuation. Texts of its training data are left out "
    "unless seen_texts says otherwise; those of its dev data, where its thresholds were chosen, are counted."
)


def facts(
    data: LoadedSplit, selection: Mapping[str, Any], judged: Sequence[Judged], mapping: LabelMapping | None
) -> dict[str, Any]:
    """Return the content of evaluation.json but for comparison and warnings, JSON values only."""
    return {
        "model": _model_facts(judged[0]),
        **({"compared": _model_facts(judged[1])} if len(judged) > 1 else {}),
        "data": {
            "name": data.name,
            "source": data.source,
            "revision": data.revision,
            "licence": data.licence,
            "digest": data.split.digest,
            "examples": len(data.split),
        },
        "examples": dict(selection),
        "labels": _labels(data, judged[0], mapping),
    }


def label_warnings(data: LoadedSplit, judged: Judged, mapping: LabelMapping | None) -> list[str]:
    """Return what the mapping of labels leaves out or covers in part."""
    aligned, warnings = judged.aligned, []
    if aligned.data_only:
        warnings.append(_count(aligned.data_only, "of the data", "not scored, because the model cannot predict"))
    if aligned.model_only:
        warnings.append(_count(aligned.model_only, "of the model", "not scored, because the data cannot judge"))
    return [*warnings, *aligned.partial, *(mapping.notes if mapping else ())]


def report_data(
    config: EvaluateConfig, folder: Path, judged: Judged, evaluation: Evaluation, known: Mapping[str, Any]
) -> ReportData:
    """Return the content of the report, without figures and warnings.

    folder: of the run, with its tables. known: the content of evaluation.json.
    """
    is_file = not judged.facts.digest
    return ReportData(
        run_name=f"{judged.facts.name} on {known['data']['name']}",
        run_id=folder.name,
        finished=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        kind="Evaluation report",
        split=config.split,
        policy_note=_FILE_NOTE if is_file else _POLICY_NOTE,
        overlap_note=_OVERLAP_NOTE,
        summary=[
            *summary.in_short(evaluation),
            summary.baseline(judged.scores.labels, judged.scores.observed),
        ],
        headlines=summary.headlines(evaluation),
        policies=summary.policy_scores(evaluation),
        labels=summary.label_scores(evaluation),
        mistakes=mistakes.confident_mistakes(folder, config.split),
        slices=mistakes.slice_scores(folder),
        label_errors=mistakes.suspected_errors(folder),
        label_error_counts=mistakes.suspected_counts(folder),
        settings=_settings(known),
        all_settings={"evaluate": flatten(config)},
        overlap=known["examples"],
        environment=environment_sections(environment.describe()),
        load_code=""
        if is_file
        else f'import mlflow\nmodel = mlflow.pyfunc.load_model("{judged.facts.source}")\n'
        f'model.predict(["{artifacts.EXAMPLE_TEXT}"])',
    )


def pictures(figures: Sequence[Path], split: str) -> list[Picture]:
    """Return the figures with their captions."""
    return [Picture(path=path, caption=f"{_CAPTIONS[path.stem]} on {split}") for path in figures]


def run_note(data: LoadedSplit, judged: Judged, metrics: Mapping[str, float], split: str, page: str) -> str:
    """Return what was evaluated and its scores as Markdown, the description of the run on MLflow's page."""
    macro, low, high, micro = (
        metrics[artifacts.metric(split, name)] for name in ("macro_f1", "macro_f1_low", "macro_f1_high", "micro_f1")
    )
    files = {"report": artifacts.REPORT, "labels": artifacts.PER_LABEL, "mistakes": artifacts.ERRORS}
    links = ", ".join(f"[{name}]({page}/artifacts/{file})" for name, file in files.items())
    return (
        f"On {split} of {data.name}: macro F1 {macro:.3f} ({low:.3f}-{high:.3f}), micro F1 {micro:.3f}, "
        f"{judged.scores.num_labels} labels, {judged.scores.num_examples:,} examples.\n\n"
        f"Model: {judged.facts.source}\n\nMore: {links}"
    )


def _model_facts(judged: Judged) -> dict[str, Any]:
    known = judged.facts
    return {
        "name": known.name,
        "source": known.source,
        "model_id": known.model_id,
        "digest": known.digest,
        "labels": len(known.label_names),
        "policy": judged.decisions.policy,
    }


def _labels(data: LoadedSplit, judged: Judged, mapping: LabelMapping | None) -> dict[str, Any]:
    aligned = judged.aligned
    sides = {"model": (aligned.model, judged.facts.label_names), "data": (aligned.data, data.label_names)}
    return {
        "mapping": mapping.name if mapping else "",
        "scored": {
            label: {side: [names[i] for i in columns[place]] for side, (columns, names) in sides.items()}
            for place, label in enumerate(aligned.label_names)
        },
        "model_only": list(aligned.model_only),
        "data_only": list(aligned.data_only),
    }


def _settings(known: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    labels = known["labels"]
    titles = {"model": "Model", "compared": "Compared with", "data": "Data"}
    sections = {
        title: {name: value[:16] if name == "digest" else value for name, value in known[part].items() if value}
        for part, title in titles.items()
        if part in known
    }
    members = {
        label: f"model: {', '.join(one['model'])}; data: {', '.join(one['data'])}"
        for label, one in labels["scored"].items()
        if one["model"] != [label] or one["data"] != [label]
    }
    return sections | ({f"Label mapping {labels['mapping']}": members} if members else {})


def _count(names: Sequence[str], side: str, consequence: str) -> str:
    labels, are, them = ("labels", "are", "them") if len(names) > 1 else ("label", "is", "it")
    return f"{len(names)} {labels} {side} {are} {consequence} {them} ({abbreviate(list(names), 5)})."
