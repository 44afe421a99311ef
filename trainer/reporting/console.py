"""Output of a command on the terminal, on rich: colours and a live bar there, plain lines in a pipe or a log.

Rich decides what the stream can show (NO_COLOR, TERM=dumb, width). Characters that its encoding lacks are replaced, and
text from outside can neither colour the screen nor move the cursor.
"""

import io
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import rich.console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from trainer.core.errors import EmotionsError
from trainer.core.redaction import redact
from trainer.reporting.progress import LineProgress, LiveProgress, Progress
from trainer.reporting.report import DASH, Estimate, LabelScore, PolicyScore, Sections, interval, number, show

__all__ = ["Console", "Progress", "abbreviate", "make"]

_SHOWN_LABELS = 5
_WIDEST = 500
"""Characters of a line of a table; a terminal wraps it."""


def make(*, quiet: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> "Console":
    """Return the console of this process; quiet, for every process except the first, prints nothing.

    out and err replace standard output and standard error.
    """
    return Console(_stream(out or sys.stdout, quiet), _stream(err or sys.stderr, quiet))


class Console:
    """Prints the plan of a run, its progress and its results. Errors and warnings go to standard error."""

    def __init__(self, out: rich.console.Console, err: rich.console.Console) -> None:
        self._out, self._err, self._live = out, err, False

    def show_plan(self, sections: Sections, hint: str = "") -> None:
        """Print the plan of a run: one line per value under its heading, then the hint."""
        self._print(("What will run", "bold"))
        for heading, rows in sections.items():
            column = max((len(name) for name in rows), default=0)
            for row, (name, value) in enumerate(rows.items()):
                shown = "" if row else heading
                self._print((f"  {shown:<9} ", "bold cyan"), (f"{name:<{column}}  ", "dim"), (show(value), ""))
        if hint:
            self._print((hint, "yellow"))

    def progress(self, total: int, start: int = 0, unit: str = "step") -> Progress:
        """Return a context whose `update` shows progress from `start` (above 0 after a resume) to `total` units."""
        if self._out.quiet:
            return Progress()
        if not self._out.is_interactive:
            return LineProgress(lambda line: self._print((line, "")), total, start, unit=unit)
        self._live = True
        return LiveProgress(self._out, total, start, self._end_live, unit)

    def show_epoch(self, row: Mapping[str, Any]) -> None:
        """Print one line; keys: epoch, epochs, train/loss, dev/loss, dev/macro_f1, dev/micro_f1, best (bool)."""
        of = f"/{row['epochs']}" if "epochs" in row else ""
        named = {"dev/loss": "loss", "dev/macro_f1": "macro F1", "dev/micro_f1": "micro F1"}
        scores = [f"{name} {row[key]:.3f}" for key, name in named.items() if key in row]
        parts = [f"epoch {row['epoch']}{of}"]
        parts += [f"loss {row['train/loss']:.3f}"] if "train/loss" in row else []
        parts += [f"dev {', '.join(scores)}"] if scores else []
        self._print(("  ".join(parts), ""), ("  best" if row.get("best") else "", "green"))

    def show_result(
        self,
        policies: Sequence[PolicyScore],
        labels: Sequence[LabelScore],
        where_next: Sequence[str] = (),
        *,
        split: str = "test",
    ) -> None:
        """Print F1 on a split for each policy, the labels with the lowest and highest F1, and the lines given."""
        self._print((f"Result on {split}", "bold"))
        table = _table("policy", "macro F1 (95 % interval)", "micro F1 (95 % interval)", "")
        for row in policies:
            chosen, style = ("chosen", "bold") if row.chosen else ("", "")
            cells = (row.name, _estimate(row.test_macro_f1), _estimate(row.test_micro_f1), chosen)
            table.add_row(*map(self._text, cells), style=style)
        self._out.print(table)
        self._labels(labels, split)
        for line in where_next:
            self.show_note(line)

    def show_rules(self, rules: Sequence[tuple[bool, str, str, str]]) -> None:
        """Print a line for each rule: whether it passed, its name, the value and the required one."""
        for passed, name, value, required in rules:
            line = f"{name}: {value}; required: {required}"
            if passed:
                self._print(("  ok      ", "green"), (line, ""))
            else:
                self._print((f"  FAILED  {line}", "bold red"))

    def show_table(self, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table in full, lines longer than the terminal too: its ids are to be copied."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in headings:
            table.add_column(self._text(heading), no_wrap=True)
        for row in rows:
            table.add_row(*map(self._text, row))
        self._print((title, "bold"))
        for line in self._out.render_lines(table, self._out.options.update(width=_WIDEST), pad=False):
            self._out.print(Segments([*line, Segment.line()]), soft_wrap=True, end="")

    def show_note(self, text: str) -> None:
        """Print one event that is neither good nor bad, such as where a run continues."""
        self._print((text, ""))

    def show_warning(self, text: str) -> None:
        """Print a problem that does not stop the run."""
        self._print((f"warning: {text}", "yellow"), to=self._errors)

    def show_error(self, error: EmotionsError) -> None:
        """Print why the run stopped and what to do, without a traceback."""
        # Whatever reads the error of a training from its log finds it in one line.
        self._print((f"error: {error}", "bold red"), to=self._errors, whole=not self._errors.is_terminal)

    def _labels(self, labels: Sequence[LabelScore], split: str) -> None:
        ranked = sorted((row for row in labels if not math.isnan(_f1(row))), key=_f1)
        shown = min(_SHOWN_LABELS, math.ceil(len(ranked) / 2))  # half of them: no label is in both columns
        low, high = ranked[:shown], ranked[shown:][::-1][:shown]
        if ranked:
            table = _table("lowest F1", "(positives)", "highest F1" if high else "", "(positives)" if high else "")
            for place, row in enumerate(low):
                cells = (*_label(row), *(_label(high[place]) if place < len(high) else ("", "")))
                table.add_row(*map(self._text, cells))
            self._out.print(table)
        if unscored := [row.name for row in labels if math.isnan(_f1(row))]:
            self._print((f"not on {split}: {abbreviate(unscored)}", "yellow"))

    def _print(self, *parts: tuple[str, str], to: rich.console.Console | None = None, whole: bool = False) -> None:
        line, console = Text.assemble(*((self._text(text), style) for text, style in parts)), to or self._out
        # A path or a command is to be copied.
        copied = line.plain.startswith("mlflow run ") or any(len(word) > console.width for word in line.plain.split())
        console.print(line, soft_wrap=whole or copied)

    def _text(self, text: str) -> str:
        plain = "".join("?" if _is_control(letter) else letter for letter in redact(text))
        return plain.replace(DASH, "-") if self._out.options.ascii_only else plain

    @property
    def _errors(self) -> rich.console.Console:
        return self._out if self._live and self._err.is_terminal else self._err  # else it would break the live bar

    def _end_live(self) -> None:
        self._live = False


def abbreviate(names: Sequence[str], most: int = 10) -> str:
    """Return the names with commas between them, those after the first `most` as a number."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _stream(file: TextIO, quiet: bool) -> rich.console.Console:
    if isinstance(file, io.TextIOWrapper):  # other streams, such as StringIO, have no encoding to fail
        file.reconfigure(errors="replace")  # rich raises for a character that the encoding lacks
    # Labels and messages may contain [brackets] and :colons:, which rich would take for styles and emoji.
    return rich.console.Console(file=file, quiet=quiet, highlight=False, markup=False, emoji=False)


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for place, heading in enumerate(headings):
        # Names are shortened, numbers never.
        table.add_column(heading, no_wrap=True, max_width=None if place % 2 else 26)
    return table


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) == "Cc" and letter not in "\n\t"  # messages may have lines


def _f1(row: LabelScore) -> float:
    """Return F1 on test, NaN for a label without one."""
    # Without a positive F1 is 0 by convention, which says nothing about the label.
    return math.nan if row.f1.value is None or row.support == 0 else row.f1.value


def _estimate(estimate: Estimate) -> str:
    between = interval(estimate)
    return f"{number(estimate.value)} ({between})" if between else number(estimate.value)


def _label(row: LabelScore) -> tuple[str, str]:
    return row.name, f"{number(row.f1.value)} ({row.support:,})"
