"""Names of registered models."""

import re

from trainer.core.errors import SettingsError
from trainer.core.settings import quote

__all__ = ["LOG_SUFFIX", "check_model_name"]

LOG_SUFFIX = "-ledger"  # the name that older versions gave to the decision log
# No quotation mark: a search for versions puts the name into its filter. No dot alone: MLflow takes names for paths.
_NAME = re.compile(r"\w([\w. -]{0,198}[\w.-])?")


def check_model_name(name: str) -> None:
    """Raise SettingsError for a name that MLflow refuses, and for that of a decision log."""
    if not _NAME.fullmatch(name) or name.endswith(LOG_SUFFIX):
        raise SettingsError(
            "`registered_model` must be letters, digits, '_', '-', '.' and spaces, begin with a letter or digit, and "
            f"not be the name of a decision log (...{LOG_SUFFIX}), got {quote(name)}."
        )
