"""Settings of batch scoring: input, output, model, and how labels are chosen."""

import re
from dataclasses import dataclass
from pathlib import Path

from trainer.core.data_files import SUFFIXES
from trainer.core.errors import SettingsError, nearest
from trainer.core.settings import quote, require

__all__ = ["INPUT_SUFFIXES", "OUTPUT_SUFFIXES", "LabelChoice", "PredictConfig"]

OUTPUT_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
INPUT_SUFFIXES = (*SUFFIXES, ".txt")
_ADDRESS = re.compile(r"models:/+([^/@:]+[@/][^/@:]+|m-\w+)")  # the second: the address of a logged model
_MAX_LABELS = 1_000_000
_MAX_ROWS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """How labels are chosen from probabilities. None: the default of the model."""

    policy: str | None = None
    """Threshold policy."""
    threshold: float | None = None
    """One threshold for all labels, instead of the policy's."""
    top_k: int | None = None
    """Maximum number of labels per text."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Score every row of a file with a registered model.

    The output has the columns of the input, `predicted_labels`, and `probability_<label>` for each label. A row that
    cannot be scored goes to OUTPUT.rejects.jsonl with its position and the reason. Run the same command again to
    continue a killed job. Exit status: 0 every row was scored, 3 the output is written and some rows were rejected,
    1 there is no output.
    """

    input: str = ""
    """File to read: .csv, .tsv, .jsonl, .ndjson, .json (one object per line), .parquet, or .txt with one text per line.
    Text files are UTF-8."""

    output: str = ""
    """File to write: .parquet, .csv, .tsv, .jsonl or .ndjson."""

    model: str = "models:/emotions@champion"
    """Model that this project saved: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/RUN_ID/model`, or a folder.
    No code of the model runs."""

    text_column: str = "text"
    """Name of the column that contains the text. The lines of a .txt file become a column of this name."""

    policy: str = ""
    """Threshold policy; empty: the default policy of the model."""

    threshold: float = -1.0
    """One threshold in [0, 1] for all labels, instead of the policy's; -1: none."""

    top_k: int = 0
    """Maximum number of labels per row, the most probable ones; 0: all labels that reach their threshold."""

    chunk_rows: int = 10_000
    """Maximum number of rows that are scored and stored together, and that a killed job loses."""

    overwrite: bool = False
    """Replace an output file that exists."""

    def __post_init__(self) -> None:
        _check_suffix("input", self.input, INPUT_SUFFIXES)
        _check_suffix("output", self.output, OUTPUT_SUFFIXES)
        for name in ("model", "text_column"):
            require(name, getattr(self, name), bool(getattr(self, name).strip()), "not be empty")
        is_address = not self.model.startswith("models:") or _ADDRESS.fullmatch(self.model) is not None
        require("model", self.model, is_address, "be models:/NAME@ALIAS or models:/NAME/VERSION")
        is_threshold = self.threshold == -1 or 0 <= self.threshold <= 1
        require("threshold", self.threshold, is_threshold, "be in [0, 1], or -1 for none")
        require("top_k", self.top_k, 0 <= self.top_k <= _MAX_LABELS, f"be in [0, {_MAX_LABELS}]; 0 is all")
        require("chunk_rows", self.chunk_rows, 1 <= self.chunk_rows <= _MAX_ROWS, f"be in [1, {_MAX_ROWS}]")

    @property
    def choice(self) -> LabelChoice:
        """Return how labels are chosen."""
        threshold = None if self.threshold == -1 else self.threshold
        return LabelChoice(policy=self.policy or None, threshold=threshold, top_k=self.top_k or None)


def _check_suffix(field: str, file: str, suffixes: tuple[str, ...]) -> None:
    suffix = Path(file).suffix.lower()
    # Neither file has a default: `--help` shows them empty, and `registry.predict` requires them.
    if file and suffix not in suffixes:
        raise SettingsError(
            f"`{field}` must end in {', '.join(suffixes)}, got {quote(file)}.{nearest(suffix, suffixes)}"
        )
