"""The report of a training run: one self-contained HTML page that needs no other file and no network.

`trainer.reporting.console` prints the same dataclasses at the end of a run. A number that does not exist is None or NaN
and shown as a dash, never as 0.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.reporting.page import page_environment

__all__ = [
    "DASH",
    "Estimate",
    "Headline",
    "LabelScore",
    "Mistake",
    "Picture",
    "PolicyScore",
    "ReportData",
    "Sections",
    "SliceScore",
    "SuspectedCount",
    "SuspectedError",
    "interval",
    "number",
    "show",
    "write_report",
]

_POLICY_NOTE = (
    "The score on dev is a nested estimate: every fold of dev is scored with thresholds (and a shrinkage strength) "
    "chosen on the other folds, mean over five splits. Unless threshold_policy names one, the first policy of the "
    "table is chosen that is not below the best such score by more than one standard error. Optimism is what fitting "
    "and scoring on the same examples would have added."
)
_OVERLAP_NOTE = "Examples whose text is also in another split, without regard to case and punctuation."
_DPI = 144  # of the figures
DASH = "\N{EN DASH}"
Sections = Mapping[str, Mapping[str, object]]
"""Heading to name to value."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; None where it does not exist."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One line of the table on top, such as macro F1, or ECE before and after calibration."""

    name: str
    estimate: Estimate
    before: float | None = None
    """The same number before calibration, if calibration changes it."""
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class PolicyScore:
    """Scores of one threshold policy."""

    name: str
    test_macro_f1: Estimate
    test_micro_f1: Estimate
    dev_macro_f1: float | None = None
    """Nested cross-fitting: each fold of dev is scored with thresholds, and a strength, chosen on the others."""
    dev_optimism: float | None = None
    """Macro F1 with thresholds fitted and scored on the same dev examples, less the cross-fitted one."""
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One label on test under the chosen policy."""

    name: str
    support: int
    """Test examples with the label."""
    f1: Estimate
    precision: float | None = None
    recall: float | None = None
    average_precision: float | None = None
    threshold: float | None = None
    calibration_gap: Estimate = field(default_factory=lambda: Estimate(None))
    """Mean probability minus fraction with the label, of the examples with a probability above 0.1."""


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One wrong label of one test example, of which the model was sure."""

    text: str
    mistake: str
    """predicted: the example lacks the label. missed: it has it."""
    label: str
    probability: float
    labels: str
    """Labels of the example, as text."""


@dataclass(frozen=True, kw_only=True)
class SliceScore:
    """F1 of a part of the test examples."""

    slice_by: str
    """What the examples of the slice have in common, such as the length of their text."""
    name: str
    examples: int
    few: bool
    """Too few examples for a reliable score."""
    labels: int
    """Labels with a positive in the slice; macro F1 is their mean."""
    macro_f1: Estimate
    micro_f1: Estimate
    subset_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class SuspectedError:
    """One annotation that is probably wrong."""

    text: str
    labels: str
    """Labels that the data give the example."""
    suspected: str
    """wrong: the example has the label. missing: it lacks it."""
    label: str
    probability: float
    split: str


@dataclass(frozen=True, kw_only=True)
class SuspectedCount:
    """Number of suspected annotations of a label."""

    label: str
    positives: int
    wrong: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A PNG file and its caption, which is also its text for screen readers."""

    path: Path
    caption: str


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The contents of the report of one run."""

    run_name: str
    run_id: str
    finished: str
    """When, as text with its time zone."""
    computed: str = ""
    """Steps, speed and device of the training."""
    summary: Sequence[str] = ()
    """The result in sentences."""
    headlines: Sequence[Headline]
    policies: Sequence[PolicyScore]
    labels: Sequence[LabelScore]
    mistakes: Sequence[Mistake] = ()
    """The most confident ones on test."""
    slices: Sequence[SliceScore] = ()
    label_errors: Sequence[SuspectedError] = ()
    """The most suspicious ones."""
    label_error_counts: Sequence[SuspectedCount] = ()
    """One per label, the most suspected annotations first."""
    settings: Sections
    """The data set and the settings that characterise the run."""
    all_settings: Sections = field(default_factory=dict)
    """Every setting, by component."""
    overlap: Mapping[str, object]
    """Examples that are in more than one split."""
    environment: Sections
    load_code: str
    """Python that loads the model; empty for predictions of another program."""
    pictures: Sequence[Picture] = ()
    warnings: Sequence[str] = ()
    kind: str = "Training report"
    split: str = "test"
    """The split that is measured."""
    policy_note: str = _POLICY_NOTE
    """How the thresholds were chosen."""
    overlap_note: str = _OVERLAP_NOTE


def write_report(path: Path, data: ReportData) -> Path:
    """Write the report as one HTML file and return `path`. A picture that does not exist raises FileNotFoundError.

    All text is escaped, and the page's own policy forbids every outside request.
    """
    environment = page_environment()
    environment.filters.update(number=number, signed=_signed, sort_key=_sort_key, percent=_percent, embed=_embed)
    environment.filters.update(interval=interval, show=show, displayed_width=_displayed_width)
    template = environment.get_template("report.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.render(data=data), "utf-8")
    return path


def number(value: float | None, digits: int = 3) -> str:
    """Return the number with `digits` decimals, or a dash for one that does not exist."""
    return DASH if _absent(value) else f"{value:.{digits}f}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """Return `low–high`, or nothing where there is no interval."""
    if _absent(estimate.low) or _absent(estimate.high):
        return ""
    return f"{estimate.low:.{digits}f}{DASH}{estimate.high:.{digits}f}"


def show(value: object) -> str:
    """Return a setting or count as text: 43,410; 0.0001; yes; a list with commas; a dash for None and empty text."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):  # before int: a bool is one
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value)
    return str(value)


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _signed(value: float | None) -> str:
    return DASH if _absent(value) else f"{value:+.3f}"


def _sort_key(value: float | None) -> str:
    """Return the key that the page's script sorts by; a missing number has an empty one and goes last."""
    return "" if value is None or math.isnan(value) else repr(float(value))  # all digits: rounded numbers would tie


def _percent(value: float | None) -> str:
    # A width in CSS, which a dash would invalidate.
    return "0" if value is None or math.isnan(value) else f"{100 * min(max(value, 0.0), 1.0):.1f}"


def _displayed_width(path: Path) -> int:
    """Return the width in CSS pixels at which all figures have letters of one size: 96 pixels an inch."""
    with path.open("rb") as file:
        header = file.read(24)
    return int.from_bytes(header[16:20]) * 96 // _DPI  # the width is in the first chunk of every PNG


def _embed(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")
