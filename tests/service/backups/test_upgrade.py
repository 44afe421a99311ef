"""A database of the MLflow version before: upgraded after a backup, which goes back to it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.service.backups.filled import put
from trainer.core.errors import SettingsError, TrackingError
from trainer.service.backups import schema
from trainer.service.backups.files import Backup, find_backups
from trainer.service.backups.restore import restore
from trainer.service.prepare import back_up_before_upgrade

BEFORE = "3.16.0"
FILL = """
import sys
from mlflow.entities import Metric, ViewType
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as Accounts
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

tracking = Tracking(sys.argv[1], "mlflow-artifacts:/")
run = tracking.create_run("0", "someone", 0, [], "older")
tracking.log_batch(run.info.run_id, [Metric("dev/f1_macro", 0.5, 1, 2)], [], [])
registry = Registry(sys.argv[1])
registry.create_registered_model("emotions")
registry.create_model_version("emotions", f"mlflow-artifacts:/0/{run.info.run_id}/artifacts/model", run.info.run_id)
registry.set_registered_model_alias("emotions", "champion", "1")
accounts = Accounts()
accounts.init_db(sys.argv[1])
accounts.create_user("reader", "a password of the reader")
"""
READ = """
import json, sys
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as Accounts
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

champion = Registry(sys.argv[1]).get_model_version_by_alias("emotions", "champion")
run = Tracking(sys.argv[1], "mlflow-artifacts:/").get_run(champion.run_id)
accounts = Accounts()
accounts.init_db(sys.argv[1])
known = accounts.authenticate_user("reader", "a password of the reader")
print(json.dumps([champion.version, run.info.run_name, run.data.metrics, known]))
"""
KEPT = [1, "older", {"dev/f1_macro": 0.5}, True]


@pytest.fixture(scope="module")
def mlflow_before(tmp_path_factory):
    """Folder with MLflow 3.16, for PYTHONPATH."""
    folder = tmp_path_factory.mktemp("mlflow")
    pins = [f"{name}=={BEFORE}" for name in ("mlflow", "mlflow-skinny", "mlflow-tracing")]
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, *pins]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"MLflow {BEFORE} must be there for this, but cannot be installed: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return folder


def run(stores, text, folder=None):
    """The output of a program, with the MLflow of a folder."""
    environment = {**os.environ, "PGPASSFILE": str(stores.password_file), "MLFLOW_FLASK_SERVER_SECRET_KEY": "k"}
    if folder:
        environment["PYTHONPATH"] = str(folder)
    words = [sys.executable, "-c", text, stores.url()]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def older(make_stores, mlflow_before):
    """Stores with a run, a champion and an account of MLflow 3.16."""
    stores = make_stores()
    with stores.maintenance() as connection:
        connection.execute(f"drop database {stores.database}")
        connection.execute(f"create database {stores.database}")
    run(stores, FILL, mlflow_before)
    put(stores, {"0/a": b"artifact"})
    return stores


def revisions(stores):
    with stores.connect() as connection:
        return schema.read_revisions(connection)


@pytest.mark.slow
def test_older_tables_are_upgraded_after_a_backup(older, mlflow_before, tmp_path, capsys):
    before = revisions(older)
    assert not schema.is_current(before)

    back_up_before_upgrade(older, tmp_path, keep=3)

    (folder,) = find_backups(tmp_path)
    made = Backup.read(folder)
    assert made.manifest.revisions == before == revisions(older)
    assert folder.name in capsys.readouterr().out

    schema.upgrade(older, older.database)

    assert schema.is_current(revisions(older))
    assert json.loads(run(older, READ)) == KEPT

    restore(older, made, replace=True)  # an older backup in a service of today

    assert schema.is_current(revisions(older))
    assert json.loads(run(older, READ)) == KEPT


def test_current_tables_need_no_backup(stores, tmp_path):
    back_up_before_upgrade(stores, tmp_path, keep=3)

    assert find_backups(tmp_path) == []


def test_newer_tables_are_refused_and_left_alone(stores, tmp_path):
    with stores.connect() as connection:
        connection.execute("update alembic_version set version_num = 'feedc0ffee00'")

    with pytest.raises(SettingsError, match="feedc0ffee00"):
        back_up_before_upgrade(stores, tmp_path, keep=3)

    assert list(tmp_path.iterdir()) == []
    assert revisions(stores) == {"mlflow": "feedc0ffee00"}


def test_failed_backup_stops_the_upgrade(stores, tmp_path):
    with stores.connect() as connection:
        connection.execute("update alembic_version set version_num = 'b7e2c1a4d9f3'")

    with pytest.raises(TrackingError, match="object store"):
        back_up_before_upgrade(replace(stores, endpoint="http://127.0.0.1:1"), tmp_path, keep=3)
