"""Text files that are complete after a crash: JSON replaced atomically, files of lines without a partial last line."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["truncate_partial_line", "write_json", "write_table"]

_READ_BYTES = 1 << 20


def write_json(path: Path, content: Any) -> Path:
    """Write JSON to a second file and rename it to `path`, which is returned.

    Raises ValueError for NaN and infinity, which JSON lacks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")  # in the same folder, because a rename is atomic within one disk
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)  # atomic: after a kill the file is the old or the new one, never a part
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], *, digits: int = 0) -> Path:
    """Write rows in the format of `mlflow.log_table`, which MLflow's page shows as a table.

    Columns are in the order of their first occurrence; a row without a column has null there. digits: significant
    digits of the numbers; 0 keeps all.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    data = [[_shortened(row.get(name), digits) for name in columns] for row in rows]
    return write_json(path, {"columns": columns, "data": data})


def _shortened(value: Any, digits: int) -> Any:
    return float(f"{value:.{digits}g}") if digits and isinstance(value, float) else value


def truncate_partial_line(path: Path) -> None:
    """Remove a last line without a newline: its writer was killed, or the disk was full."""
    with path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _READ_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
