"""Collects the content of the report and the model card of a training run."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path

from trainer.config import TrainConfig
from trainer.core import artifacts, environment
from trainer.core.settings import flatten
from trainer.data.dataset import Dataset
from trainer.evaluation.evaluation import Evaluation
from trainer.reporting import summary
from trainer.reporting.report import Estimate, Picture, ReportData

__all__ = ["report_data", "run_note"]


def report_data(
    config: TrainConfig, run_id: str, dataset: Dataset, evaluation: Evaluation, figures: Sequence[Path]
) -> ReportData:
    """Return the content of the report of a run that has read test. figures: their files."""
    return ReportData(
        run_name=config.name,
        run_id=run_id,
        finished=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        headlines=summary.headlines(evaluation),
        policies=summary.policy_scores(evaluation),
        labels=summary.label_scores(evaluation),
        settings={
            "Data set": {"source": dataset.source, "licence": dataset.licence}
            | {f"{role} digest": digest[:16] for role, digest in dataset.digests.items()},
            **{part.name: flatten(getattr(config, part.name)) for part in fields(config)},
        },
        overlap=vars(dataset.overlap),
        environment=environment.describe(),
        load_code=(
            f'import mlflow\nmodel = mlflow.pyfunc.load_model("runs:/{run_id}/{artifacts.MODEL}")\n'
            'model.predict(["so proud of you!"])'
        ),
        pictures=[Picture(path=path, caption=path.stem.replace("_", " ")) for path in figures],
        warnings=_warnings(evaluation),
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


def _warnings(evaluation: Evaluation) -> list[str]:
    if not evaluation.origin:
        return []
    return [
        "Dev was part of the training data, so there are no scores on dev. Temperature and thresholds are those of "
        f"run {evaluation.origin}, which held dev out."
    ]
