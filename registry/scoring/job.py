"""Checks the files of a scoring job and describes what its output depends on."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.scoring.config import PredictConfig
from trainer.core.errors import DataError, SettingsError
from trainer.core.input_files import read_json, show_path

if TYPE_CHECKING:
    from registry.scoring.scorer import Scorer

__all__ = [
    "PUBLISHED",
    "check_files",
    "check_new",
    "fingerprint",
    "is_published",
    "parts_folder",
    "read_kept",
    "rejects_file",
]

PUBLISHED = "published.json"
"""File of the folder with the chunks: size and time of the finished output, written before the output."""
_FORMAT = 2
"""Increase it when parts are written in another way."""


def rejects_file(output: Path) -> Path:
    """Return the path of the list of rejected rows."""
    return output.with_name(f"{output.name}.rejects.jsonl")


def parts_folder(output: Path) -> Path:
    """Return the path of the folder with the scored chunks."""
    return output.with_name(f".{output.name}.parts")


def is_published(output: Path) -> bool:
    """Return whether the output is that of the job whose folder is still there: it was killed while it removed it."""
    marker = parts_folder(output) / PUBLISHED
    if not (marker.is_file() and output.is_file()):
        return False
    kept, now = read_kept(marker), output.stat()
    return (kept["size"], kept["time"]) == (now.st_size, now.st_mtime_ns)


def read_kept(path: Path) -> Any:
    """Return the content of a JSON file of the folder with the chunks. Raises DataError when it is damaged."""
    try:
        return read_json(path)
    except ValueError as error:
        raise DataError(
            f"Cannot continue the job: {show_path(path)} is damaged ({error}). Remove that folder to score all rows."
        ) from error


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
    if not is_published(output):  # a job that was killed at its end has its output
        check_new(output, overwrite=config.overwrite)


def check_new(output: Path, *, overwrite: bool) -> None:
    """Raise SettingsError when the output exists and must not be replaced."""
    if output.is_dir() or (output.exists() and not overwrite):
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
        raise DataError(f"Cannot read `input` {show_path(path)} any more ({error.strerror}).") from error
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
