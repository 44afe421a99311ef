"""Settings of batch scoring: what to read, what to write, which model, and how it decides."""

from dataclasses import dataclass
from pathlib import Path

from trainer.core.errors import SettingsError
from trainer.core.settings import nearest

__all__ = ["INPUT_SUFFIXES", "OUTPUT_SUFFIXES", "PredictConfig"]

OUTPUT_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
INPUT_SUFFIXES = (*OUTPUT_SUFFIXES, ".txt")


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Score every row of a file with a registered model.

    The output has the columns of the input, `predicted_labels`, and `probability_<label>` for each label. A row that
    cannot be scored goes to OUTPUT.rejects.jsonl with the reason. A killed job goes on where it stopped when the same
    command is given again. Exit status: 0 every row was scored, 3 the output is written and some rows were rejected,
    1 there is no output.
    """

    input: str = ""
    """File to read: .csv, .tsv, .jsonl, .ndjson, .parquet, or .txt with one text a line. Text files are UTF-8."""

    output: str = ""
    """File to write: .parquet, .csv, .tsv, .jsonl or .ndjson."""

    model: str = "models:/emotions@champion"
    """Model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/RUN_ID/model`, or a folder of a saved model."""

    text_column: str = "text"
    """Name of the column that holds the text. The lines of a .txt file become a column of this name."""

    policy: str = ""
    """Threshold policy; empty is the model's own choice."""

    threshold: float = -1.0
    """One threshold in [0, 1] for all labels, instead of the policy's; -1 is none."""

    top_k: int = 0
    """At most so many labels a row, the most probable ones; 0 is all that reach their threshold."""

    chunk_rows: int = 10_000
    """Rows that are scored and kept at a time. A killed job loses at most so many; large texts make chunks shorter."""

    overwrite: bool = False
    """Whether an output file that exists already is replaced."""

    def __post_init__(self) -> None:
        _check_suffix("input", self.input, INPUT_SUFFIXES)
        _check_suffix("output", self.output, OUTPUT_SUFFIXES)
        for field in ("model", "text_column"):
            if not getattr(self, field).strip():
                raise SettingsError(f"{field} must not be empty, but got {field}={getattr(self, field)!r}.")
        if self.threshold != -1 and not 0 <= self.threshold <= 1:
            raise SettingsError(f"threshold must be in [0, 1], or -1 for none, but got {self.threshold=}.")
        if self.top_k < 0:
            raise SettingsError(f"top_k must be 0 (all) or more, but got {self.top_k=}.")
        if self.chunk_rows < 1:
            raise SettingsError(f"chunk_rows must be at least 1, but got {self.chunk_rows=}.")

    @property
    def params(self) -> dict[str, str | float | int]:
        """What the model is asked besides the texts; what was not given is left to the model."""
        given: dict[str, tuple[str | float | int, object]] = {
            "policy": (self.policy, ""),
            "threshold": (self.threshold, -1),
            "top_k": (self.top_k, 0),
        }
        return {name: value for name, (value, absent) in given.items() if value != absent}


def _check_suffix(field: str, file: str, suffixes: tuple[str, ...]) -> None:
    suffix = Path(file).suffix.lower()
    # Neither file has a default: `--help` shows them empty, and `registry.predict` asks for them.
    if file and suffix not in suffixes:
        raise SettingsError(
            f"{field} must be a file named {', '.join(suffixes)}, but got {field}={file!r}.{nearest(suffix, suffixes)}"
        )
