"""One batch job: the files it may use, and the facts that its output depends on."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.scoring.config import PredictConfig
from trainer.core.errors import DataError, SettingsError

if TYPE_CHECKING:
    from registry.scoring.scorer import Scorer

__all__ = ["check_files", "describe", "rejects_file"]

_END = 2**20
_PARTS = 1
"""Raise it when parts are written in another way."""


def rejects_file(output: Path) -> Path:
    """Where the rows of a job that cannot be scored are listed."""
    return output.with_name(f"{output.name}.rejects.jsonl")


def check_files(config: PredictConfig) -> None:
    """Raise SettingsError unless input and output are named, differ, and the output can be a new file."""
    for name, value in (("input", config.input), ("output", config.output)):
        if not value:
            raise SettingsError(f"{name} must name a file, but got {name}={value!r}. Give --{name} FILE.")
    source, output = Path(config.input), Path(config.output)
    if source.resolve() in (output.resolve(), rejects_file(output).resolve()):
        raise SettingsError(f"output must be another file than input, but got {config.input=}, {config.output=}.")
    if not output.parent.is_dir():
        raise SettingsError(f"output must be in a folder that exists, but got {config.output=}. Make the folder first.")
    if output.is_dir() or (output.exists() and not config.overwrite):
        raise SettingsError(
            f"output must be a new file, but got {config.output=}, which exists. "
            "Give another name, or overwrite=true to replace a file."
        )


def describe(config: PredictConfig, model: "Scorer") -> dict[str, Any]:
    """What the output depends on: a job goes on only where all of it is as before. DataError when the input is gone."""
    return {
        "version of the parts": _PARTS,
        **_describe_input(Path(config.input)),
        "model": model.source,
        "content of the model": model.digest,
        "text_column": config.text_column,
        "chunk_rows": config.chunk_rows,
        **{name: config.params.get(name) for name in ("policy", "threshold", "top_k")},
    }


def _describe_input(path: Path) -> dict[str, Any]:
    try:
        facts = path.stat()
        return {
            "input": ascii(str(path.resolve())),  # JSON has no form for a name that is not UTF-8
            "size of the input": facts.st_size,
            "time of the input": facts.st_mtime_ns,
            "content of the input": _digest_of_ends(path, facts.st_size),
        }
    except OSError as error:
        raise DataError(f"input must stay where it is, but got input={str(path)!r} ({error.strerror}).") from error


def _digest_of_ends(path: Path, size: int) -> str:
    """sha256 of the first and the last MiB: the whole of a large file would take longer than it is worth."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_END))
        file.seek(max(size - _END, 0))
        digest.update(file.read(_END))
    return digest.hexdigest()
