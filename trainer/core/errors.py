"""The errors that a user can cause or fix. Every other exception is a defect and keeps its own class.

    EmotionsError
    ├── SettingsError   a parameter, preset or combination of them
    ├── DataError       a data set, split, example or label
    ├── ModelError      an encoder folder, hub id, checkpoint or saved model
    ├── TrackingError   the tracking server or a run on it
    ├── RegistryError   a registered model, version or alias, or what promoting one needs
    └── TuningError     a study, its storage, or trials that all fail

Wording of a wrong value: "`epochs` must be at least 1, got 0.", with the value as a user types it.
Wording of an event: what failed, why, what to do.
"""

import difflib
from collections.abc import Collection

__all__ = [
    "DataError",
    "EmotionsError",
    "ModelError",
    "RegistryError",
    "SettingsError",
    "TrackingError",
    "TuningError",
    "nearest",
    "shorten",
]

_MOST_SHOWN = 100
"""Characters of a value that an error shows: the whole message stays short, whatever a user or a file gives."""
_MOST_COMPARED = 100


class EmotionsError(Exception):
    """Base of every error whose text alone tells the user what to do."""


class SettingsError(EmotionsError):
    """A setting is unknown, out of range, or contradicts another.

    Not a ValueError: tyro replaces the text of one that a configuration raises.
    """


class DataError(EmotionsError):
    """A data set is missing, damaged or unfit for training."""


class ModelError(EmotionsError):
    """An encoder, checkpoint or saved model cannot be found or used."""


class TrackingError(EmotionsError):
    """The tracking server cannot be reached, or a run on it cannot be used."""


class RegistryError(EmotionsError):
    """A registered model, version or alias is missing, or a run cannot become one."""


class TuningError(EmotionsError):
    """A study cannot be opened or continued, or its trials fail."""


def nearest(name: str, names: Collection[str]) -> str:
    """Return a sentence, after a space, that offers the most similar name; empty when none is similar."""
    spelled = {known.lower(): known for known in names}
    close = difflib.get_close_matches(name[:_MOST_COMPARED].lower(), spelled, n=1)
    return f" Did you mean `{spelled[close[0]]}`?" if close else ""


def shorten(text: object, most: int = _MOST_SHOWN) -> str:
    """Return a text of at most `most` characters for a message: both ends of a longer one, on one line, as Unicode."""
    shown = str(text).encode("utf-8", "backslashreplace").decode("utf-8").replace("\n", "\\n").replace("\0", "\\0")
    if len(shown) <= most:
        return shown
    end = (most - 3) // 2
    return f"{shown[: most - 3 - end]}...{shown[-end:]}"
