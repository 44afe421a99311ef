"""Peak memory and speed of `predict`: a file of two million rows compared with one of twenty thousand.

python -m tests.benchmarks.predicting RESULT.json --input FILE --output FILE [--setting value]...
"""

import csv
import json
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import mlflow
import pyarrow
import pyarrow.parquet
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import Array

from registry import predict
from tests.benchmarks.common.processes import alternate, peak_resident_mib, run_python
from tests.benchmarks.common.tables import Row, Table
from trainer.data.config import DataConfig
from trainer.data.sources import load

__all__ = ["measure"]

_FEW, _MANY, _QUICK_MANY = 20_000, 2_000_000, 100_000
_NAMES = [f"label {number:02}" for number in range(28)]
_MODEL = f"""
import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

class Lengths(PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None):
        lengths = np.array([len(text) for text in model_input], dtype=float)
        table = pd.DataFrame(np.outer(lengths % 97, np.arange(28)) / 2619, columns={_NAMES!r})
        table["labels"] = pd.Series([[{_NAMES[0]!r}]] * len(lengths), dtype=object)
        return table

set_model(Lengths())
"""
_NOTE = (
    "chunks of 10,000 rows with the repeated texts of the starter, resident memory. The model has 28 labels and no "
    "encoder, whose memory would hide that of the rows. Each file is scored once. A ratio of 1 is memory that does not "
    "grow with the rows"
)


def measure(options):
    """Yield a table for each pair of input and output format: peak memory, and rows per second."""
    few, many = _FEW, (_QUICK_MANY if options.quick else _MANY)
    texts = load(DataConfig(), seed=0).train.texts
    for source, target in (("csv", "csv"), ("jsonl", "parquet"), ("parquet", "jsonl")):
        with tempfile.TemporaryDirectory(prefix="emotions-bench-") as name:
            jobs = {rows: _Job(Path(name), source, target, rows, texts) for rows in (few, many)}
            small, large = alternate(jobs, 1).values()
        rows = []
        for metric, words, more in (
            ("peak_mib", "peak MiB", False),
            ("rows_per_second", "rows/s, start included", True),
        ):
            pair = {"ours": [one[metric] for one in large], "reference": [one[metric] for one in small]}
            rows.append(Row(measure=f"{words}, {many:,} rows", **pair, more_is_better=more))
        yield Table(title=f"predicting {source} to {target}, reference: {few:,} rows", rows=tuple(rows), note=_NOTE)


class _Job:
    """A file with this number of rows; each call scores it in a new process."""

    def __init__(self, folder, source, target, rows, texts):
        self._folder, self._input, self._target, self._rows = folder, folder / f"{rows}.{source}", target, rows
        self._texts = texts

    def __call__(self):
        result, output = self._folder / "result.json", self._folder / f"out.{self._target}"
        _write_rows(self._input, islice(cycle(self._texts), self._rows))
        files = ["--input", str(self._input), "--output", str(output), "--model", str(_model(self._folder))]
        run_python(["-m", "tests.benchmarks.predicting", str(result), *files], str(self._folder))
        self._input.unlink()
        output.unlink()
        figures = json.loads(result.read_text(encoding="utf-8"))
        return {"peak_mib": figures["peak_mib"], "rows_per_second": self._rows / figures["seconds"]}


def _write_rows(path, texts):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": list(texts)}), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            csv.writer(file).writerows([("id", "text"), *enumerate(texts)])
        else:
            file.writelines(json.dumps({"id": row, "text": text}) + "\n" for row, text in enumerate(texts))


def _model(folder):
    if not (folder / "model").exists():
        (folder / "lengths.py").write_text(_MODEL, encoding="utf-8")
        outputs = Schema([*(ColSpec("double", name) for name in _NAMES), ColSpec(Array("string"), "labels")])
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(folder / "lengths.py"),
            signature=ModelSignature(outputs=outputs),
            pip_requirements=["mlflow"],
        )
    return folder / "model"


def _main(result, *arguments):
    started = time.perf_counter()
    status = predict.main(arguments)
    figures = {"seconds": time.perf_counter() - started, "peak_mib": peak_resident_mib()}
    Path(result).write_text(json.dumps(figures), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
