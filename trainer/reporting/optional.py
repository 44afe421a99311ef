"""Pictures and pages are optional: one that cannot be made costs a warning, never the results."""

import logging
from collections.abc import Callable
from typing import TypeVar

from trainer.core.redaction import redact

__all__ = ["attempt"]

_T = TypeVar("_T")
_MAX_SHOWN_CHARACTERS = 200
_log = logging.getLogger(__name__)


def attempt(name: str, make: Callable[[], _T]) -> _T | None:
    """Return what `make` returns; None, after a warning with `name`, when it raises."""
    try:
        return make()
    except Exception as error:  # of matplotlib, a template or memory: the results do not depend on it
        reason = redact(" ".join(f"{type(error).__name__}: {error}".split()))[:_MAX_SHOWN_CHARACTERS]
        _log.warning("Cannot make %s (%s). The command continues without it.", name, reason)
        return None
