"""The check of a saved model: it loads, and it answers as its run was judged.

The model runs in a child process on a local copy, with an allow-listed environment: no credentials of the tracking
server, the artifact store or a study reach it, and a model that crashes or hangs does not end the promotion.
"""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry.config import CheckConfig
from trainer.core import artifacts
from trainer.core.child_process import child_command, parent_pipe
from trainer.core.environment import child_environment
from trainer.core.errors import RegistryError, shorten
from trainer.core.input_files import read_json
from trainer.core.redaction import redact
from trainer.evaluation.calibration import Calibration
from trainer.tracking.connection import describe_error

__all__ = ["Judged", "ModelCheck", "check_model"]

_LIMIT_SECONDS = 1800
_MAX_CAUSE = 150
_TRACEBACK = "Traceback (most recent call last)"
# What finds Python, the libraries and a GPU, and sets threads: any other variable may be a secret.
_ALLOWED_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCH_NUM_THREADS", "TOKENIZERS_PARALLELISM"),
)
_FIXED_VARIABLES = {
    "HF_HUB_OFFLINE": "1",  # a saved model is complete
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",  # MLflow allows it by default; unpickling runs code
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Answers and settings of a run's evaluation, which its saved model must repeat. n examples, k labels."""

    label_names: tuple[str, ...]
    texts: tuple[str, ...]
    probabilities: NDArray[np.float64]
    """(n, k), calibrated."""
    calibration: Calibration
    policy: str
    """Name of the default policy."""
    policies: Mapping[str, tuple[float, ...]]
    """k thresholds of each policy."""


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """Measurements of a saved model."""

    examples: int
    """Examples of test scored again."""
    score_difference: float
    """Largest difference from the probabilities of the run."""
    label_differences: int
    """Predicted labels that differ from those judged, except where the judged probability is nearer than
    `max_score_difference` to its threshold."""
    setting_differences: tuple[str, ...]
    """Calibration, default policy and thresholds that differ from those judged, one phrase each."""
    latency_ms_p50: float
    """Of one text, median."""
    latency_ms_p95: float
    """Of one text; 95 % are faster."""
    size_mb: float
    """Of all files, in 10^6 bytes."""
    load_seconds: float
    """From the files to a model that answers."""
    foreign_code: str = ""
    """Why the code in the model is not taken for this project's; empty for this project's code."""


def check_model(model_uri: str, judged: Judged, config: CheckConfig, scratch: Path) -> ModelCheck | str:
    """Return the measurements, or the reason why the model cannot be used.

    The loader of this project reads the model and no code in the model runs, except with `allow_foreign_code`, where
    MLflow loads the model. scratch: a folder for the copy. Raises RegistryError when there is no model to download.
    """
    folder = _download(model_uri, scratch / "model")
    total = len(judged.texts)
    rows = np.unique(np.linspace(0, total - 1, min(config.check_rows or total, total)).astype(int))
    texts = scratch / "texts.json"
    texts.write_text(json.dumps([judged.texts[row] for row in rows]), encoding="utf-8")
    failure = _run_child(folder, texts, scratch, config)
    return failure or _measure(judged, rows, scratch, config)


def _download(model_uri: str, target: Path) -> Path:
    import mlflow.artifacts

    try:
        return Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(target)))
    except Exception as error:  # each kind of artifact store has its own errors
        cause = shorten(describe_error(error), _MAX_CAUSE)
        raise RegistryError(
            f"Cannot download model {model_uri} ({cause}). If it was deleted, choose another run or version."
        ) from error


def _run_child(folder: Path, texts: Path, scratch: Path, config: CheckConfig) -> str:
    """Run the child process; return why it failed, or nothing. `-P` keeps the folder of the copy out of imports."""
    module = "registry.promotion.foreign_check" if config.allow_foreign_code else "trainer.serving.check"
    arguments = ["--model", str(folder), "--texts", str(texts), "--output", str(scratch)]
    try:
        with parent_pipe() as pipe:
            done = subprocess.run(
                child_command(module, arguments, "-P"),
                cwd=scratch,
                env=_environment(),
                stdin=pipe,
                capture_output=True,
                text=True,
                check=False,
                timeout=_LIMIT_SECONDS,
            )
    except subprocess.TimeoutExpired:
        return (
            f"no answer after {_LIMIT_SECONDS} seconds for {config.check_rows or 'all'} test examples; lower "
            "check_rows, or run this on a faster machine"
        )
    if done.returncode:
        return f"its process ended with status {done.returncode}: {_last_error(done.stderr)}"
    return ""


def _last_error(stderr: str) -> str:
    text = redact(stderr.strip())
    if _TRACEBACK in text:  # it ends with its error
        text = text.splitlines()[-1]
    return shorten(text, _MAX_CAUSE)


def _environment() -> dict[str, str]:
    inherited = child_environment()
    return {name: inherited[name] for name in _ALLOWED_VARIABLES if name in inherited} | _FIXED_VARIABLES


def _measure(judged: Judged, rows: NDArray[Any], scratch: Path, config: CheckConfig) -> ModelCheck | str:
    import pyarrow.parquet

    result = read_json(scratch / artifacts.CHECK_RESULT)
    scores = pyarrow.parquet.read_table(scratch / artifacts.CHECK_SCORES)
    names = result["label_names"]
    if set(names) != set(judged.label_names):
        other = sorted(set(names) ^ set(judged.label_names))
        return f"its labels are not those of the run; not in both: {shorten(', '.join(other[:5]))}"
    columns = [names.index(name) for name in judged.label_names]  # a foreign model may have another order
    served = np.array(scores["probabilities"].to_pylist(), dtype=np.float64)[:, columns]
    predicted = np.array([np.isin(judged.label_names, labels) for labels in scores["labels"].to_pylist()])
    expected, thresholds = judged.probabilities[rows], np.array(judged.policies[judged.policy])
    # Rounding may move these over the threshold.
    undecided = np.abs(expected - thresholds) <= config.max_score_difference
    slow, median = np.quantile(result["latency_ms"], (0.95, 0.5))
    return ModelCheck(
        examples=len(rows),
        score_difference=float(np.abs(served - expected).max()),
        label_differences=int(((predicted != (expected >= thresholds)) & ~undecided).sum()),
        # MLflow's interface does not tell the settings of a model.
        setting_differences=() if config.allow_foreign_code else tuple(_setting_differences(judged, result, columns)),
        latency_ms_p50=float(median),
        latency_ms_p95=float(slow),
        size_mb=result["size_mb"],
        load_seconds=result["load_seconds"],
        foreign_code="not examined" if config.allow_foreign_code else _foreign_code(result["code"]),
    )


def _setting_differences(judged: Judged, result: Mapping[str, Any], columns: list[int]) -> list[str]:
    pairs = [
        ("calibration", [judged.calibration], [Calibration.of(member) for member in result["members"]]),
        ("default policy", judged.policy, result["default_policy"]),
    ]
    for policy, thresholds in judged.policies.items():
        served = result["thresholds"].get(policy)
        pairs.append((f"thresholds of {policy}", list(thresholds), served and [served[column] for column in columns]))
    return [f"{name} differs" for name, wanted, served in pairs if wanted != served]  # exactly: JSON keeps all digits


def _foreign_code(code: Mapping[str, Any]) -> str:
    if not code["is_known"]:
        return f"digest {code['digest'][:12] or 'unknown'} is of no version of this project"
    return f"foreign requirements: {', '.join(code['requirements'])}" if code["requirements"] else ""
