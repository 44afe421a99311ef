"""Revisions of MLflow's tables and of those of its accounts: compare them with the installed MLflow, and upgrade."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from trainer.core.errors import SettingsError, TrackingError, shorten

if TYPE_CHECKING:
    import psycopg

    from trainer.service.stores import Stores

__all__ = ["check_known", "is_current", "read_revisions", "upgrade"]

_TABLES = {"mlflow": "alembic_version", "accounts": "alembic_version_auth"}
_SCRIPTS = {"mlflow": "store/db_migrations", "accounts": "server/auth/db/migrations"}


def read_revisions(connection: "psycopg.Connection[Any]") -> dict[str, str]:
    """Return the revision of MLflow's tables and of its accounts, those that the database has."""
    from psycopg import sql

    found = {}
    for name, table in _TABLES.items():
        if connection.execute("select to_regclass(%s)", [table]).fetchone() != (None,):
            row = connection.execute(sql.SQL("select version_num from {}").format(sql.Identifier(table))).fetchone()
            found[name] = str(row[0]) if row else ""
    return found


def check_known(revisions: Mapping[str, str], made_by: str) -> None:
    """Raise SettingsError when a newer MLflow made the tables. made_by: what they are and which MLflow made them."""
    for name, revision in revisions.items():
        if revision not in _known(name):
            raise SettingsError(
                f"MLflow {metadata.version('mlflow')} of this service is older than {made_by}: it does not know "
                f"revision {shorten(revision)} of the tables. Install the newer MLflow; nothing was changed."
            )


def is_current(revisions: Mapping[str, str]) -> bool:
    """Return whether the tables are those of the installed MLflow."""
    return all(revision == _known(name)[0] for name, revision in revisions.items())


def upgrade(stores: "Stores", database: str) -> None:
    """Change the tables of a database to those of the installed MLflow. Raises TrackingError when it fails."""
    url = stores.url(database)
    _run(stores, "mlflow", "db", "upgrade", url)
    _run(stores, "mlflow.server.auth", "db", "upgrade", "--url", url)


@cache
def _known(name: str) -> list[str]:
    """Return the revisions that the installed MLflow knows, newest first. MLflow itself is not imported."""
    from alembic.script import ScriptDirectory

    # `files` would import MLflow, which takes seconds.
    (folder,) = importlib.util.find_spec("mlflow").submodule_search_locations  # type: ignore[union-attr, misc]
    scripts = ScriptDirectory(f"{folder}/{_SCRIPTS[name]}")
    return [script.revision for script in scripts.walk_revisions()]


def _run(stores: "Stores", module: str, *words: str) -> None:
    environment = {**os.environ, "PGPASSFILE": str(stores.password_file), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-m", module, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise TrackingError(f"Cannot upgrade the tables of the database ({shorten(reason, 200)}).")
