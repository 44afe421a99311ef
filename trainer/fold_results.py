"""The results of a cross-validation: scores of each fold and of all together, as a table, a report and a summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig
from trainer.core import artifacts
from trainer.core.text_files import write_table
from trainer.data.dataset import Dataset
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.fold_mean import FoldMean, mean_over_folds
from trainer.reporting.fold_report import FoldReport, write_fold_report
from trainer.reporting.optional import attempt
from trainer.reporting.report import Estimate
from trainer.runs.results import TABLE_DIGITS, Predictions

__all__ = ["Fold", "FoldResults"]

_COLUMNS = {
    "dev macro F1": "dev/final/macro_f1",
    "dev micro F1": "dev/final/micro_f1",
    "dev macro AP": "dev/final/macro_ap",
    "test macro F1": "test/macro_f1",
    "test micro F1": "test/micro_f1",
}
"""Column of the table of folds → score of a fold's run."""
_OPTIMISM = (
    "The weights of a fold are those that were best on its held-out examples, so dev and out-of-fold scores are "
    "slightly optimistic. Calibration and thresholds add nothing to that: they are cross-fitted. Test chose nothing."
)
_DEPENDENCE = (
    "The trainings of two folds share most of their examples, so their scores are not independent: the interval is "
    "widened for it (Nadeau and Bengio 2003), and is approximate."
)


@dataclass(frozen=True)
class Fold:
    """One fold of the data."""

    number: int
    held_out: tuple[str, ...]
    """Ids of the examples."""
    num_trained_on: int


@dataclass(frozen=True, kw_only=True)
class FoldResults:
    """What the finished folds give together."""

    folds: Sequence[Fold]
    runs: Mapping[int, str]
    """Fold → id of its run."""
    scores: Mapping[int, Mapping[str, float]]
    """Fold → every score of its run."""
    pooled: Predictions
    """Out-of-fold predictions."""
    evaluation: Evaluation
    """Calibration and thresholds fitted on `pooled`, with their scores on it."""

    @cached_property
    def means(self) -> dict[str, FoldMean]:
        """Column of the table of folds → its mean."""
        by_column = {name: [one.get(metric) for one in self.scores.values()] for name, metric in _COLUMNS.items()}
        return {
            name: mean_over_folds([value for value in values if value is not None])
            for name, values in by_column.items()
            if None not in values
        }

    def metrics(self) -> dict[str, float]:
        """Return every score by its metric name, and what a final training needs: the mean steps of the folds.

        Those on test are means over the folds' models.
        """
        steps = {
            name: sum(one[name] for one in self.scores.values()) / len(self.scores)
            for name in (artifacts.BEST_STEP, artifacts.SCHEDULE_STEPS)
        }
        of_all = {name: value for name, value in self.evaluation.metrics().items() if not name.startswith("dev/")}
        pooled = {artifacts.metric(artifacts.OUT_OF_FOLD, name): value for name, value in self.evaluation.dev.items()}
        return {**pooled, **of_all, **self._mean_metrics(), **steps}

    def headlines(self) -> dict[str, float]:
        """Return the scores that are metrics of the parent run."""
        shown = {artifacts.metric(artifacts.OUT_OF_FOLD, one) for one in ("macro_f1", "micro_f1", "ece")}
        averaged = ("folds/", "test/")
        return {name: value for name, value in self.metrics().items() if name in shown or name.startswith(averaged)}

    def rows(self) -> list[dict[str, Any]]:
        """Return the table of folds: a row per fold."""
        return [
            {
                "fold": fold.number,
                **{name: self.scores[fold.number].get(metric) for name, metric in _COLUMNS.items()},
                "trained on": fold.num_trained_on,
                "held out": len(fold.held_out),
                "best step": self.scores[fold.number].get(artifacts.BEST_STEP),
                "run": self.runs[fold.number],
            }
            for fold in self.folds
        ]

    def write_table(self, folder: Path) -> Path:
        """Write the table of folds."""
        return write_table(folder / artifacts.FOLDS, self.rows(), digits=TABLE_DIGITS)

    def write_report(self, folder: Path, config: TrainConfig, dataset: Dataset, command: str) -> None:
        """Write the report; one that fails costs a warning. command: trains the final model."""
        report = FoldReport(
            name=f"{config.name}, {len(self.folds)} folds",
            run_id=folder.name,
            data_set=f"{dataset.name}: {self.pooled.num_examples:,} examples of train and dev, "
            f"{len(dataset.test):,} of test, {len(dataset.label_names)} labels",
            sentences=self.sentences(),
            remarks=(_OPTIMISM, _DEPENDENCE),
            folds=self.rows(),
            means={
                name: (one.mean, one.sd, Estimate(one.mean, one.low, one.high) if _has_interval(name) else None)
                for name, one in self.means.items()
            },
            labels=self.evaluation.per_label[artifacts.OUT_OF_FOLD],
            thresholds={
                name: float(value)
                for name, value in zip(
                    self.evaluation.label_names, self.evaluation.thresholds[self.evaluation.policy], strict=True
                )
            },
            policy=self.evaluation.policy,
            command=command,
        )
        attempt(f"the report {artifacts.REPORT}", lambda: write_fold_report(folder / artifacts.REPORT, report))

    def sentences(self) -> list[str]:
        """Return the result in sentences."""
        dev, found = self.means["dev macro F1"], self.evaluation.dev
        lines = [
            f"Out-of-fold macro F1 of {self.pooled.num_examples:,} examples is {found['macro_f1']:.3f} with thresholds "
            f"of policy {self.evaluation.policy}, cross-fitted; micro F1 is {found['micro_f1']:.3f}.",
            f"Dev macro F1 over {len(self.folds)} folds: {_shown(dev)}, 95 % interval [{dev.low:.3f}, {dev.high:.3f}].",
        ]
        if "test macro F1" in self.means:
            lines.append(f"Test macro F1 of one fold's model: {_shown(self.means['test macro F1'])}.")
        return lines

    def lines(self) -> list[str]:
        """Return the result for the terminal."""
        rows = [
            f"  fold {row['fold']}: "
            + ", ".join(f"{name} {row[name]:.3f}" for name in _COLUMNS if row[name] is not None)
            for row in self.rows()
        ]
        return ["\nResult over folds", *rows, *self.sentences()]

    def note(self, page: str) -> str:
        """Return the result as Markdown, which MLflow's page shows as the description of the run."""
        files = {"report": artifacts.REPORT, "folds": artifacts.FOLDS, "labels": artifacts.PER_LABEL}
        links = ", ".join(f"[{name}]({page}/artifacts/{file})" for name, file in files.items())
        return "\n\n".join([" ".join(self.sentences()), f"More: {links}"])

    def _mean_metrics(self) -> dict[str, float]:
        named: dict[str, float] = {}
        for name, one in self.means.items():
            stem = _COLUMNS[name] if name.startswith("test") else f"folds/{name.lower().replace(' ', '_')}"
            named |= {stem: one.mean, f"{stem}_sd": one.sd}
            if _has_interval(name):
                named |= {f"{stem}_low": one.low, f"{stem}_high": one.high}
        return named


def _shown(one: FoldMean) -> str:
    return f"{one.mean:.3f} ± {one.sd:.3f} (mean and standard deviation)"


def _has_interval(column: str) -> bool:
    # All models are tested on the same examples: how their scores differ says nothing of other examples.
    return column.startswith("dev")
