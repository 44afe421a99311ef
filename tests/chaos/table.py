"""The table at the end: promise, attempts, failures."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.promises import Ledger
from trainer.core.environment import available_cores

__all__ = ["as_markdown", "as_text", "write_page"]

_BEGIN, _END = "<!-- table of make chaos -->", "<!-- end of the table -->"
_NAMED = ("mlflow", "torch", "transformers", "optuna")


def rows_of(ledger: Ledger) -> list[tuple[str, str, int, int]]:
    """Return family, promise, attempts and failures."""
    return [(family, promise, one.attempts, one.failures) for (family, promise), one in ledger.tallies.items()]


def as_text(ledger: Ledger) -> str:
    """Return the table for the terminal."""
    rows = [(family, promise, str(attempts), str(failed)) for family, promise, attempts, failed in rows_of(ledger)]
    rows.insert(0, ("attack", "promise", "attempts", "failures"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{family:<{widths[0]}}  {promise:<{widths[1]}}  {attempts:>{widths[2]}}  {failed:>{widths[3]}}"
        for family, promise, attempts, failed in rows
    ]
    return "\n".join(lines)


def as_markdown(ledger: Ledger, remarks: Sequence[str]) -> str:
    """Return the table for the documentation, with versions and machine."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _NAMED)
    where = f"Python {platform.python_version()}, {versions}; {platform.system()}, {len(available_cores())} cores."
    lines = [where, "", "| attack | promise | attempts | failures |", "|---|---|---|---|"]
    lines += [
        f"| {family} | {promise} | {attempts:,} | {failed} |" for family, promise, attempts, failed in rows_of(ledger)
    ]
    return "\n".join([*lines, *(f"\n{remark}" for remark in remarks)])


def write_page(page: Path, ledger: Ledger, remarks: Sequence[str]) -> None:
    """Replace the table in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    page.write_text(f"{before}{_BEGIN}\n\n{as_markdown(ledger, remarks)}\n\n{_END}{after}", encoding="utf-8")
