"""Tries a model in a process of its own: whether it loads without pickle, scores as its run did, is fast and small.

    python -m registry.promotion.model_check MODEL_URI PREDICTIONS.parquet TEMPERATURE ROWS RESULT.json

is that process. A model that crashes, hangs or wants to unpickle something takes nobody along.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from registry.config import ProbeConfig
from registry.promotion.gate import Rule
from trainer.core.environment import child_environment, redact
from trainer.evaluation import calibration
from trainer.runs.results import read_predictions

__all__ = ["Probed", "main", "probe", "rules"]

_LIMIT_SECONDS = 1800
_SINGLE_TEXTS = 40
_WARM_UP = 3
_SHOWN_CHARACTERS = 600


@dataclass(frozen=True)
class Probed:
    """What the process found."""

    rows: int
    """Rows of test scored again."""
    score_difference: float
    """Largest difference from the probabilities of the run."""
    latency_ms_p50: float
    """Of one text, median."""
    latency_ms_p95: float
    """Of one text; 19 of 20 are faster."""
    size_mb: float
    """Of all its files, in 10^6 bytes."""
    load_seconds: float
    """From its files to a model that answers."""


def probe(model_uri: str, predictions: Path, temperature: float, config: ProbeConfig) -> Probed | str:
    """What was found, or the reason why the model cannot be used.

    predictions: test.parquet of its run; temperature: the run's.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        words = [model_uri, str(predictions), str(temperature), str(config.check_rows), str(result)]
        environment = child_environment() | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
        command = [sys.executable, "-m", "registry.promotion.model_check", *words]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"it had not answered after {_LIMIT_SECONDS} seconds"
        if done.returncode:
            last = redact(done.stderr.strip())[-_SHOWN_CHARACTERS:]
            return f"its process ended with status {done.returncode}: {last}"
        return Probed(**json.loads(result.read_text(encoding="utf-8")))


def rules(found: Probed | str, config: ProbeConfig) -> tuple[Rule, ...]:
    """The rules that a model keeps or breaks by what was found."""
    needed = "it loads with pickle refused, and answers"
    if isinstance(found, str):
        return (Rule("loads", False, found, needed),)
    return (
        Rule("loads", True, f"in {found.load_seconds:.1f} s", needed),
        Rule(
            "scores as its run did",
            found.score_difference <= config.max_score_difference,
            f"{found.score_difference:.1e} apart at most, on {found.rows:,} test rows",
            f"{config.max_score_difference:g}",
        ),
        Rule(
            "answers fast",
            found.latency_ms_p95 <= config.max_latency_ms,
            f"{found.latency_ms_p50:.0f} ms in the middle, {found.latency_ms_p95:.0f} ms for 19 of 20 texts",
            f"{config.max_latency_ms:g} ms",
        ),
        Rule("is small", found.size_mb <= config.max_size_mb, f"{found.size_mb:,.1f} MB", f"{config.max_size_mb:g} MB"),
    )


def main(argv: Sequence[str]) -> int:
    """The process that tries the model; it writes what it found as JSON."""
    model_uri, predictions, temperature, rows, result = argv
    with tempfile.TemporaryDirectory() as scratch:
        found = _try(model_uri, Path(predictions), float(temperature), int(rows), Path(scratch))
    Path(result).write_text(json.dumps(asdict(found)), encoding="utf-8")
    return 0


def _try(model_uri: str, path: Path, temperature: float, count: int, scratch: Path) -> Probed:
    import mlflow.artifacts
    import mlflow.pyfunc

    saved = read_predictions(path)
    total = len(saved.texts)
    rows = np.unique(np.linspace(0, total - 1, min(count or total, total)).astype(int))
    folder = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(scratch)))
    started = time.perf_counter()
    model = mlflow.pyfunc.load_model(str(folder))
    loaded = time.perf_counter() - started
    texts = [saved.texts[row] for row in rows]
    answer = model.predict(texts)[list(saved.label_names)].to_numpy(dtype=np.float64)
    expected = calibration.apply_temperature(saved.logits[rows], temperature)
    seconds = []
    for text in [texts[place % len(texts)] for place in range(_WARM_UP + _SINGLE_TEXTS)]:
        started = time.perf_counter()
        model.predict([text])
        seconds.append(time.perf_counter() - started)
    slow, middle = np.quantile(seconds[_WARM_UP:], (0.95, 0.5)) * 1000
    return Probed(
        rows=len(rows),
        score_difference=float(np.abs(answer - expected).max()),
        latency_ms_p50=float(middle),
        latency_ms_p95=float(slow),
        size_mb=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6,
        load_seconds=loaded,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
