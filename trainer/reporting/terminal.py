"""One text stream of the terminal, and how text is made fit for it."""

import os
import textwrap
import unicodedata
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import rich.console

__all__ = ["Sink", "wrap"]

_WIDTH = 80
_WIDEST = 100
_ASCII = str.maketrans(
    {
        "\N{EN DASH}": "-",
        "\N{EM DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{PLUS-MINUS SIGN}": "+/-",
        "\N{RIGHTWARDS ARROW}": "->",
        "\N{GREATER-THAN OR EQUAL TO}": ">=",
        "\N{LESS-THAN OR EQUAL TO}": "<=",
        "\N{MIDDLE DOT}": "|",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{NO-BREAK SPACE}": " ",
    }
)


class Sink:
    """One stream: knows whether it may be coloured and what letters it can hold."""

    def __init__(self, file: TextIO, quiet: bool) -> None:
        self._file, self._quiet = file, quiet
        self.rich: rich.console.Console | None = None
        plain = quiet or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not file.isatty()
        if not plain:
            from rich.console import Console as RichConsole

            self.rich = RichConsole(file=file, force_terminal=True, highlight=False, markup=False, emoji=False)

    @property
    def styled(self) -> bool:
        """True when the stream shows colours."""
        return self.rich is not None

    @property
    def width(self) -> int:
        """Columns of a line."""
        return _WIDTH if self.rich is None else max(40, min(self.rich.width, _WIDEST))

    def write(self, *segments: tuple[str, str]) -> None:
        """Write the segments, each a text and its style, as one line."""
        if self._quiet:
            return
        clean = [(_encodable(text, self._file.encoding or "utf-8"), style) for text, style in segments]
        if self.rich is None:
            self._file.write("".join(text for text, _ in clean).rstrip() + "\n")
            self._file.flush()
            return
        from rich.text import Text

        self.rich.print(Text.assemble(*clean), soft_wrap=True)


def _encodable(text: str, encoding: str) -> str:
    text = "".join("?" if unicodedata.category(letter) == "Cc" else letter for letter in text.replace("\t", " "))
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        ascii_text = text.translate(_ASCII)
        return ascii_text.encode(encoding, "replace").decode(encoding)
    return text


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` letters; a longer word stays whole, and the text's own line breaks stay."""
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        lines += textwrap.wrap(
            line, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return lines or [""]
