"""What a run says on the terminal, through one object.

On a terminal: colours and a live bar. Elsewhere, or with NO_COLOR or TERM=dumb: plain lines of at most 80 columns (a
longer word, such as a path, stays whole so that it can be copied), no escape codes. Letters that the stream's encoding
lacks are replaced, never an error. Text from outside cannot move the cursor or colour the screen.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from trainer.core.errors import EmotionsError
from trainer.reporting.progress import LineProgress, LiveProgress, Progress
from trainer.reporting.report import Estimate, LabelScore, PolicyScore, Sections, interval, number, show
from trainer.reporting.terminal import Sink, wrap

__all__ = ["Console", "Progress", "make"]

_SHOWN_LABELS = 5


def make(*, quiet: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> "Console":
    """The console of this process. quiet: print nothing at all, for every process but the first.

    out and err stand in for standard output and standard error.
    """
    return Console(Sink(out or sys.stdout, quiet), Sink(err or sys.stderr, quiet), quiet=quiet)


class Console:
    """Shows what will run, how it goes and what came out. Errors and warnings go to standard error."""

    def __init__(
        self, out: Sink, err: Sink, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out, self._err, self._quiet, self._clock = out, err, quiet, clock
        self._live = False

    def show_plan(self, sections: Sections, hint: str = "") -> None:
        """What will run: one paragraph per heading, or on a terminal one line per value; then the hint."""
        self._out.write(("What will run", "bold"))
        for heading, rows in sections.items():
            facts = {name: show(value) for name, value in rows.items()}
            if self._out.styled:
                self._facts(heading, facts)
            else:
                text = "; ".join(f"{name} {value}" for name, value in facts.items())
                self._paragraph(f"  {heading:<10} ", text)
        if hint:
            self._paragraph("", hint, "yellow")

    def progress(self, total: int, start: int = 0, unit: str = "step") -> Progress:
        """A context whose `update` shows the way from `start` (more than 0 after a resume) to `total`, in a unit."""
        if self._quiet:
            return Progress()
        if self._out.rich is None:
            return LineProgress(lambda line: self._out.write((line, "")), total, start, self._clock, unit)
        self._live = True
        return LiveProgress(self._out.rich, total, start, self._end_live, unit)

    def show_epoch(self, row: Mapping[str, Any]) -> None:
        """One line. Known keys: epoch, epochs, train/loss, dev/loss, dev/macro_f1, dev/micro_f1, best (bool)."""
        of = f"/{row['epochs']}" if "epochs" in row else ""
        named = {"dev/loss": "loss", "dev/macro_f1": "macro F1", "dev/micro_f1": "micro F1"}
        scores = [f"{name} {row[key]:.3f}" for key, name in named.items() if key in row]
        parts = [f"epoch {row['epoch']}{of}"]
        parts += [f"loss {row['train/loss']:.3f}"] if "train/loss" in row else []
        parts += [f"dev {', '.join(scores)}"] if scores else []
        best = row.get("best", False)
        self._out.write(("  ".join(parts), ""), ("  best" if best else "", "green"))

    def show_result(
        self, policies: Sequence[PolicyScore], labels: Sequence[LabelScore], where_next: Sequence[str] = ()
    ) -> None:
        """F1 on test for each policy, the labels it is lowest and highest for, and the lines given."""
        self._out.write(
            ("Result on test", "bold"), ("        macro F1 (95 % interval)   micro F1 (95 % interval)", "dim")
        )
        for row in policies:
            text = f"  {_cut(row.name, 18):<18}  {_estimate(row.test_macro_f1):<25}  {_estimate(row.test_micro_f1)}"
            self._out.write((f"{text:<72}", "bold" if row.chosen else ""), (" chosen" if row.chosen else "", "green"))
        self._labels(labels)
        for line in where_next:
            self._paragraph("", line)

    def show_rules(self, rules: Sequence[tuple[bool, str, str, str]]) -> None:
        """Print a line for each rule: whether it passed, its name, the measured value and the required one."""
        for passed, name, value, required in rules:
            prefix, style = ("  ok      ", "") if passed else ("  FAILED  ", "bold red")
            self._paragraph(prefix, f"{name}: {value}; required: {required}", style)

    def show_note(self, text: str) -> None:
        """One event that is neither good nor bad, such as where a run continues."""
        self._paragraph("", text)

    def show_warning(self, text: str) -> None:
        """Something that does not stop the run but that its owner should know."""
        self._paragraph("warning: ", text, "yellow", self._errors())

    def show_error(self, error: EmotionsError) -> None:
        """Why the run stopped, and what to do, without a traceback."""
        self._paragraph("error: ", str(error), "bold red", self._errors())

    def _labels(self, labels: Sequence[LabelScore]) -> None:
        ranked = sorted((row for row in labels if not math.isnan(_f1(row))), key=_f1)
        shown = min(_SHOWN_LABELS, math.ceil(len(ranked) / 2))
        low, high = ranked[:shown], ranked[shown:][::-1][:shown]
        if ranked:
            heads = f"  {'lowest F1 (examples)':<36}  {'highest F1 (examples)' if high else ''}"
            self._out.write((heads.rstrip(), "dim"))
        for place, row in enumerate(low):
            other = _label(high[place]) if place < len(high) else ""
            self._out.write((f"  {_label(row):<36}  {other}".rstrip(), ""))
        unscored = [row.name for row in labels if math.isnan(_f1(row))]
        if unscored:
            self._paragraph("  not on test: ", ", ".join(unscored), "yellow")

    def _facts(self, heading: str, facts: Mapping[str, str]) -> None:
        column = max((len(name) for name in facts), default=0)
        for name, value in facts.items():
            prefix = f"  {heading:<12} {name:<{column}}  "
            first, *rest = wrap(value, self._out.width - len(prefix))
            self._out.write((f"  {heading:<12} ", "bold cyan"), (f"{name:<{column}}  ", "dim"), (first, ""))
            for line in rest:
                self._out.write((" " * len(prefix) + line, ""))
            heading = ""

    def _paragraph(self, prefix: str, text: str, style: str = "", sink: Sink | None = None) -> None:
        sink = sink or self._out
        for place, line in enumerate(wrap(text, sink.width - len(prefix))):
            sink.write(((" " * len(prefix) if place else prefix) + line, style))

    def _errors(self) -> Sink:
        return self._out if self._live and self._err.styled else self._err  # else it would cut through the live bar

    def _end_live(self) -> None:
        self._live = False


def _f1(row: LabelScore) -> float:
    """NaN for a label that test says nothing about."""
    return math.nan if row.f1.value is None or row.support == 0 else row.f1.value


def _estimate(estimate: Estimate) -> str:
    between = interval(estimate)
    return f"{number(estimate.value)} ({between})" if between else number(estimate.value)


def _label(row: LabelScore) -> str:
    return f"{_cut(row.name, 20):<20} {number(row.f1.value)} ({row.support:,})"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."
