"""The data set that ships with the project."""

import dataclasses
from pathlib import Path

from trainer.data.sources import files
from trainer.data.sources.errors import RowErrors
from trainer.data.sources.source import Location, SourceData

__all__ = ["NAME", "read", "recognises"]

NAME = "starter"

_FOLDER = Path(__file__).parents[1] / "starter"


def recognises(location: Location) -> bool:
    """See `Source`."""
    return location.config.dataset == NAME


def read(location: Location, errors: RowErrors) -> SourceData:
    """See `Source`."""
    data = files.read(dataclasses.replace(location, path=_FOLDER), errors)
    return dataclasses.replace(data, name=NAME, description=NAME, licence="Apache-2.0")
