"""Checks the files of a scoring job and describes what its output depends on."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.scoring.config import PredictConfig
from trainer.core.errors import DataError, SettingsError
from trainer.core.input_files import show_path

if TYPE_CHECKING:
    from registry.scoring.scorer import Scorer

__all__ = ["check_files", "fingerprint", "rejects_file"]

_FORMAT = 2
"""Increase it when parts are written in another way."""


def rejects_file(output: Path) -> Path:
    """Return the path of the list of rejected rows."""
    return output.with_name(f"{output.name}.rejects.jsonl")


def check_files(config: PredictConfig) -> None:
    """Raise SettingsError unless input and output are given, differ, and the output can be a new file."""
    for name, value in (("input", config.input), ("output", config.output)):
        if not value:
            raise SettingsError(f"`{name}` must name a file, got an empty value. Give --{name} FILE.")
    source, output = Path(config.input), Path(config.output)
    # Publishing the job would destroy the input.
    if source.resolve() in (output.resolve(), rejects_file(output).resolve()):
        raise SettingsError(f"`output` must be another file than `input`, got {show_path(output)} for both.")
    if not output.parent.is_dir():
        raise SettingsError(f"`output` must be in a folder that exists, got {show_path(output)}. Make it first.")
    if output.is_dir() or (output.exists() and not config.overwrite):
        raise SettingsError(
            f"`output` must be a new file, got {show_path(output)}, which exists. "
            "Give another name, or overwrite=true to replace a file."
        )


def fingerprint(config: PredictConfig, model: "Scorer") -> dict[str, Any]:
    """Return what the output depends on; a job continues only if all of it is unchanged.

    Raises DataError when the input is gone.
    """
    path = Path(config.input)
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"Cannot read `input` {path} any more ({error.strerror}).") from error
    return {
        "format of the parts": _FORMAT,
        "input": ascii(str(path.resolve())),  # JSON has no form for a name that is not UTF-8
        "size of the input": stat.st_size,
        "time of the input": stat.st_mtime_ns,
        "model": model.source,
        "content of the model": model.digest,  # a folder may get other files
        "text_column": config.text_column,
        "chunk_rows": config.chunk_rows,  # decides which rows each stored chunk has
        **asdict(config.choice),
    }
