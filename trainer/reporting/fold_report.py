"""The report of a cross-validation: one self-contained HTML page that needs no other file and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.reporting.page import page_environment
from trainer.reporting.report import Estimate, interval, number, show

__all__ = ["FoldReport", "write_fold_report"]


@dataclass(frozen=True, kw_only=True)
class FoldReport:
    """The contents of the report."""

    name: str
    run_id: str
    data_set: str
    sentences: Sequence[str]
    """The result."""
    remarks: Sequence[str]
    """How to read it."""
    folds: Sequence[Mapping[str, object]]
    """A row per fold: column → value; a number that does not exist is None."""
    means: Mapping[str, tuple[float, float, Estimate | None]]
    """Column → mean, standard deviation, mean with its interval where it has one."""
    labels: Sequence[Mapping[str, object]]
    """A row per label: label, support, precision, recall, f1 of the out-of-fold predictions."""
    thresholds: Mapping[str, float]
    """Label → threshold of the policy."""
    policy: str
    command: str
    """Trains the final model."""


def write_fold_report(path: Path, data: FoldReport) -> Path:
    """Write the report as one HTML file and return `path`.

    All text is escaped, and the page's own policy forbids every outside request.
    """
    environment = page_environment()
    environment.filters.update(number=number, interval=interval, cell=_cell)
    template = environment.get_template("fold_report.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(data=data), "utf-8")
    return path


def _cell(value: object) -> str:
    return number(value) if isinstance(value, float) and not value.is_integer() else show(value)
