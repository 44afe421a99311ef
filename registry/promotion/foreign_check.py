"""Loads a saved model with MLflow, which runs the code in it, scores texts, and reports.

    python -m registry.promotion.foreign_check --model FOLDER --texts TEXTS.json --output FOLDER

The output is that of `trainer.serving.check`, without the settings of the model. The model check starts this process
where `allow_foreign_code` permits it.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trainer.core import artifacts

__all__ = ["check_foreign_model", "main"]

_LABELS = "labels"
_SINGLE_TEXTS, _WARM_UP = 40, 3  # as in `trainer.serving.check`: one latency limit is for both


def main(argv: Sequence[str]) -> int:
    """Return 0 after the check; an error of the model ends the process."""
    parser = argparse.ArgumentParser()
    for name in ("--model", "--texts", "--output"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args(argv)
    texts = json.loads(arguments.texts.read_text(encoding="utf-8"))
    check_foreign_model(arguments.model, texts, arguments.output)
    return 0


def check_foreign_model(folder: Path, texts: Sequence[str], output: Path) -> None:
    """Write the scores of the texts, and measurements, into the output folder."""
    import mlflow.pyfunc
    import pyarrow
    import pyarrow.parquet

    started = time.perf_counter()
    model = mlflow.pyfunc.load_model(str(folder))
    load_seconds = time.perf_counter() - started
    answer = model.predict(list(texts))
    names = [name for name in answer.columns if name != _LABELS]
    latencies = []
    for number in range(_WARM_UP + _SINGLE_TEXTS):
        started = time.perf_counter()
        model.predict([texts[number % len(texts)]])
        latencies.append(1000 * (time.perf_counter() - started))
    result = {
        "label_names": names,
        "load_seconds": load_seconds,
        "latency_ms": latencies[_WARM_UP:],
        "size_mb": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
        "code": {"digest": "", "is_known": False, "requirements": []},
    }
    table = pyarrow.table({"probabilities": list(answer[names].to_numpy("float64")), "labels": list(answer[_LABELS])})
    pyarrow.parquet.write_table(table, output / artifacts.CHECK_SCORES)
    (output / artifacts.CHECK_RESULT).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
