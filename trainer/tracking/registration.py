"""A model card as the description of a registered version."""

import re

__all__ = ["LIMIT", "describe"]

LIMIT = 5000
"""Characters that MLflow's tables hold; SQLite takes more, PostgreSQL and MySQL refuse the whole version."""

_SECTION = re.compile(r"(?m)^(?=## )")
_FIGURE = re.compile(r"(?m)^!\[.*\n*")
_REST = "The rest stands in {file}, an artifact of the run.\n"


def describe(card: str, file: str) -> str:
    """Return the card without figures, or as many of its first sections as fit in LIMIT and where the rest stands.

    card: Markdown whose sections begin with `## `. file: where the whole card is found.
    """
    whole = _FIGURE.sub("", card)
    if len(whole) <= LIMIT:
        return whole
    rest, text = _REST.format(file=file), ""
    for section in _SECTION.split(whole):
        if len(text) + len(section) + len(rest) > LIMIT:
            break
        text += section
    return (text or whole[: LIMIT - len(rest) - 2] + "\n\n") + rest
