"""The errors a user can cause or mend. Everything else is a defect and keeps its own class.

    EmotionsError
    ├── SettingsError   a parameter, preset or combination of them
    ├── DataError       a data set, split, row or label
    ├── ModelError      an encoder folder, hub id, checkpoint or saved model
    ├── TrackingError   the tracking server or a run on it
    ├── RegistryError   a registered model, version or alias, or what promoting one needs
    └── TuningError     a study, its storage, or trials that all fail

Wording: "<thing> must <rule>, but got {name=}. <what to do>".
"""

__all__ = ["DataError", "EmotionsError", "ModelError", "RegistryError", "SettingsError", "TrackingError", "TuningError"]


class EmotionsError(Exception):
    """Base of every error whose text alone tells the user what to do."""


class SettingsError(EmotionsError, ValueError):
    """A setting is unknown, out of range, or contradicts another."""


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
