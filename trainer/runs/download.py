"""Artifacts of finished runs on this machine: in their run folder, or downloaded once."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core.errors import DataError, shorten
from trainer.core.redaction import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["fetch_artifacts"]

_COPIES = ".downloaded"  # not the folder of a run


def fetch_artifacts(client: "MlflowClient", run_id: str, names: Iterable[str], output: Path) -> Path:
    """Return a folder named `run_id` with these artifacts of a finished run, whose artifacts no longer change.

    That is the run folder in `output` where it has them all; otherwise `output`/.downloaded/`run_id`, to which the
    missing ones are downloaded. Raises DataError when one cannot be.
    """
    from mlflow.exceptions import MlflowException

    names = tuple(names)
    if all((output / run_id / name).is_file() for name in names):
        return output / run_id
    copies = output / _COPIES / run_id
    copies.mkdir(parents=True, exist_ok=True)
    for name in (name for name in names if not (copies / name).is_file()):
        (copies / name).parent.mkdir(exist_ok=True)
        # Moved when it is complete: another command may use the same copies.
        with tempfile.TemporaryDirectory(dir=copies) as scratch:
            try:
                Path(client.download_artifacts(run_id, name, scratch)).replace(copies / name)
            except (MlflowException, OSError) as error:  # OSError: a local artifact store
                reason = shorten(redact(str(error)))
                raise DataError(f"Cannot download {name} of run {run_id} ({reason}). Was it uploaded?") from error
    return copies
