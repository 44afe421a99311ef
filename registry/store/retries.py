"""Writes that other writers may get in the way of."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["retry_on_conflict"]

_T = TypeVar("_T")

# What MLflow answers when two writers meet in its database: a number or an alias that the other was faster to insert
# (its own three attempts may not be enough), or a file that is locked.
_PASSING = ("RESOURCE_ALREADY_EXISTS", "INTERNAL_ERROR", "BAD_REQUEST", "TEMPORARILY_UNAVAILABLE")
_ATTEMPTS = 8
_PAUSE_SECONDS = 0.05


def retry_on_conflict(write: Callable[[], _T]) -> _T:
    """What `write` returns, after as many as 8 attempts where others write at the same time.

    `write` may be carried out although its answer was an error, so it must be safe to repeat.
    """
    from mlflow.exceptions import MlflowException

    for attempt in range(1, _ATTEMPTS):
        try:
            return write()
        except MlflowException as error:
            if error.error_code not in _PASSING:
                raise
            time.sleep(random.uniform(0, _PAUSE_SECONDS * 2**attempt))  # noqa: S311  # no secret
    return write()
