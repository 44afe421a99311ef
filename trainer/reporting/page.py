"""The environment of the templates of all reports: what is put in is escaped, and a misspelt name raises."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page_environment"]

_FOLDER = Path(__file__).parent


def page_environment(folder: Path = _FOLDER) -> "Environment":
    """Return an environment with the templates of a folder; all can include `page.css.j2`, the style of the reports."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        autoescape=True,
        undefined=StrictUndefined,  # it would print nothing otherwise
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FileSystemLoader([folder, _FOLDER]),
    )
