"""Stores that are made once and copied for each test that begins with them."""

import contextlib
import shutil
import sqlite3

import pytest
from registry_helpers import FINE, Commands

from registry.promotion import model_check

# Columns where MLflow keeps absolute addresses of artifacts.
_ADDRESSES = (
    *(("experiments", "artifact_location"), ("runs", "artifact_uri")),
    *(("logged_models", "artifact_location"), ("model_versions", "storage_location")),
)


def make_champions(folder, migrated_store, qualities):
    """Fill `folder` with a store where models of these qualities became champion one after the other; their runs."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder}/mlflow.db"
    shutil.copy(migrated_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setattr(model_check, "check_model", lambda *_: FINE)
        commands = Commands(MlflowClient(uri), folder)
        runs = []
        for seed, quality in enumerate(qualities, start=1):
            runs.append(commands.run(quality, seed=seed))
            assert commands.promote() == 0, commands.text
        return runs


def copy_store(source, target):
    """Copy a store with its artifacts; returns its URI."""
    from mlflow.tracking._tracking_service import utils

    utils._artifact_repos_cache.clear()  # MLflow caches by run id where its artifacts are
    shutil.copytree(source, target, dirs_exist_ok=True)
    with contextlib.closing(sqlite3.connect(target / "mlflow.db")) as database, database:
        for table, column in _ADDRESSES:
            change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(change, (str(source), str(target)))
    return f"sqlite:///{target}/mlflow.db"
