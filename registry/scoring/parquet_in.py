"""Parquet files to score, in chunks of rows that keep their types."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

from registry.scoring.chunks import LARGEST, Chunk, Source
from registry.scoring.rows_in import Reject, why_unfit
from trainer.core.errors import DataError

__all__ = ["open_parquet"]

_MIB = 2**20


def open_parquet(path: Path, text_column: str) -> Source:
    """The file at `path`; DataError when it is not Parquet."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns, total = tuple(file.schema_arrow.names), file.metadata.num_rows
            size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"input must be readable as Parquet, but got input={str(path)!r} ({error}).") from error
    fitting = LARGEST * total // max(size, 1)
    return _ParquetSource(path=path, text_column=text_column, columns=columns, total=total, fitting=max(fitting, 1))


@dataclass(frozen=True, kw_only=True)
class _ParquetSource:
    """Positions are in rows."""

    path: Path
    text_column: str
    columns: tuple[str, ...]
    total: int
    fitting: int
    """How many rows of the mean size make the largest chunk."""
    unit: str = "row"

    def chunks(self, rows: int) -> Iterator[Chunk]:
        position = 0
        try:
            # Without a buffer, whole columns of a row group are read at once.
            with pyarrow.parquet.ParquetFile(self.path, buffer_size=_MIB) as file:
                for batch in file.iter_batches(min(rows, self.fitting)):
                    yield self._chunk(pyarrow.Table.from_batches([batch]), position)
                    position += batch.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"input must be readable as Parquet, but got {str(self.path)!r} ({error}).") from error

    def _chunk(self, table: pyarrow.Table, before: int) -> Chunk:
        reasons = _reasons(table, self.text_column)
        kept = _kept(table, reasons)
        unfit = [row for row, reason in enumerate(reasons) if reason]
        return Chunk(
            table=kept,
            texts=kept[self.text_column].to_pylist(),
            rejects=[Reject(before + row + 1, None, reasons[row], _shown(table, row)) for row in unfit],
            position=before + len(table),
        )


def _reasons(table: pyarrow.Table, text_column: str) -> list[str]:
    """Why each row cannot be scored; empty where it can. Parquet does not rule out strings that are not UTF-8."""
    try:
        table.validate(full=True)
    except pyarrow.ArrowInvalid:
        if len(table) == 1:
            return ["row is not UTF-8"]
        return [_reasons(table.slice(row, 1), text_column)[0] for row in range(len(table))]
    return [why_unfit(text) for text in table[text_column].to_pylist()]


def _kept(table: pyarrow.Table, reasons: Sequence[str]) -> pyarrow.Table:
    """The rows without a reason. `Table.filter` would do, but not for every type."""
    slices, first = [table.slice(0, 0)], 0
    for row in [row for row, reason in enumerate([*reasons, "end"]) if reason]:
        slices.append(table.slice(first, row - first))
        first = row + 1
    return pyarrow.concat_tables(slices)


def _shown(table: pyarrow.Table, row: int) -> str:
    try:
        return ", ".join(
            f"{name}: {column[row].as_py()!r}" for name, column in zip(table.column_names, table.columns, strict=True)
        )
    except UnicodeDecodeError:
        return ""
