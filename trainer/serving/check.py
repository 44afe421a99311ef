"""Loads a saved model with the code of this version, scores texts, and reports. Runs no code of the model.

    python -m trainer.serving.check --model FOLDER --texts TEXTS.json --output FOLDER

A process that accepts a model starts this one, with an environment that has no secrets and a time limit. TEXTS.json:
a list of texts. The output folder gets `scores.parquet`, one row per text with `probabilities` (k numbers) and
`labels` (those of the default policy, the most probable first), and then `check.json`:

- label_names, default_policy, thresholds (policy → k numbers), members (temperature, bias and max_length of each);
- texts, load_seconds, latency_ms (of one text, in the order of the calls), size_mb (all files, in 10^6 bytes);
- code: digest, is_known (the model's code is that of this version or of an earlier one of this project) and
  requirements (those that are not pinned packages of a served model; none is expected).
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.core import settings
from trainer.core.artifacts import CHECK_RESULT, CHECK_SCORES
from trainer.core.errors import EmotionsError, SettingsError
from trainer.core.input_files import read_json

if TYPE_CHECKING:
    from trainer.serving.scoring import TextScorer

__all__ = ["CheckConfig", "check_model", "main"]

_WARM_UP = 3  # calls before those that are measured: the first ones are slower


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What is checked, and on which texts."""

    model: str = ""
    """Folder of a saved model."""
    texts: str = ""
    """JSON file with a list of texts."""
    output: str = ""
    """Folder for the results."""
    single_texts: int = 40
    """Texts that are scored alone, to measure the latency."""

    def __post_init__(self) -> None:
        if self.single_texts < 1:
            raise SettingsError(f"`single_texts` must be at least 1, got {self.single_texts}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 after the check, 1 when the model cannot be loaded or scored; the reason goes to standard error."""
    try:
        config = settings.parse(CheckConfig, sys.argv[1:] if argv is None else argv)
        if missing := [name for name in ("model", "texts", "output") if not getattr(config, name)]:
            raise SettingsError(f"`{missing[0]}` must not be empty.")
        texts = read_json(Path(config.texts))
        check_model(Path(config.model), texts, Path(config.output), single_texts=config.single_texts)
    except (EmotionsError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def check_model(model: Path, texts: Sequence[str], output: Path, *, single_texts: int = 40) -> None:
    """Write the scores of the texts and the facts about a model folder, as the module's docstring describes."""
    import pyarrow
    import pyarrow.parquet

    from trainer.serving.scoring import TextScorer, read_serving  # slow: loads torch

    artifacts = model / "artifacts"
    serving = read_serving(artifacts)
    code = _describe_code(model)
    started = time.perf_counter()
    scorer = TextScorer(artifacts)
    load_seconds = time.perf_counter() - started
    probabilities = scorer.probabilities(texts)
    labels = scorer.labels(probabilities, scorer.thresholds[scorer.default_policy])
    result = {
        "label_names": list(scorer.label_names),
        "default_policy": serving.default_policy,
        "thresholds": serving.thresholds,
        "members": [{**asdict(one.calibration), "max_length": one.max_length} for one in serving.members],
        "texts": len(texts),
        "load_seconds": load_seconds,
        "latency_ms": _latencies(scorer, texts, single_texts),
        "size_mb": sum(file.stat().st_size for file in model.rglob("*") if file.is_file()) / 1e6,
        "code": code,
    }
    output.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table({"probabilities": list(probabilities), "labels": labels})
    pyarrow.parquet.write_table(table, output / CHECK_SCORES)
    # JSON has no NaN, and Python would write one.
    (output / CHECK_RESULT).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _latencies(scorer: "TextScorer", texts: Sequence[str], count: int) -> list[float]:
    seconds = []
    for number in range(_WARM_UP + count if texts else 0):
        started = time.perf_counter()
        scorer.probabilities([texts[number % len(texts)]])
        seconds.append(time.perf_counter() - started)
    return [1000 * value for value in seconds[_WARM_UP:]]


def _describe_code(model: Path) -> dict[str, Any]:
    from trainer.serving import runtime

    code = runtime.read_code(model)
    return {
        "digest": code.digest,
        "is_known": code.is_known,
        "requirements": runtime.foreign_requirements(model),
    }


if __name__ == "__main__":
    sys.exit(main())
