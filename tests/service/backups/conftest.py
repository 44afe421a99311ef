import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.service.backups.filled import insert
from trainer.service.stores import Stores, postgres_program

PASSWORD = "pa55/w0rd' of the database"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def parts():
    """A PostgreSQL and an S3 server of this test session, as `Stores` without database and bucket."""
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="emotions-stores-"))
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    port, s3_port, cluster = free_port(), free_port(), folder / "data"
    words = ["-D", cluster, "-U", "mlflow", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    subprocess.run([postgres_program("initdb"), *words], user=user, cwd=folder, check=True, capture_output=True)
    options = ["-D", cluster, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    password_file = folder / "pgpass"
    password_file.write_text(f"127.0.0.1:{port}:*:mlflow:{PASSWORD}\n")
    password_file.chmod(0o600)
    with (folder / "log").open("w") as log:
        database = subprocess.Popen([postgres_program("postgres"), *options], user=user, stdout=log, stderr=log)
        objects = start_objects(folder, s3_port, log)
    try:
        stores = Stores(
            host="127.0.0.1",
            port=port,
            user="mlflow",
            database="none",
            password_file=password_file,
            endpoint=f"http://127.0.0.1:{s3_port}",
            access_key="key",
            secret_key="secret",
            bucket="none",
        )
        wait(lambda: stores.databases() == [], folder)
        wait(lambda: stores.s3().list_buckets(), folder)
        yield stores
    finally:
        objects.kill()
        database.send_signal(signal.SIGINT)  # without waiting for clients
        objects.wait()
        database.wait()
        shutil.rmtree(folder)


def start_objects(folder, port, log):
    identity = '{"identities": [{"name": "mlflow", "credentials": [{"accessKey": "key", "secretKey": "secret"}], '
    (folder / "s3.json").write_text(identity + '"actions": ["Admin", "Read", "Write", "List"]}]}')
    (folder / "objects").mkdir()
    ports = [f"-{name}.port={free_port()}" for name in ("master", "volume", "filer")]
    grpc = [f"-{name}.port.grpc={free_port()}" for name in ("master", "volume", "filer", "s3")]
    words = ["-s3", f"-s3.port={port}", f"-s3.config={folder}/s3.json", f"-dir={folder}/objects", "-ip=127.0.0.1"]
    off = ["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    limits = ["-master.volumeSizeLimitMB=64", "-volume.max=500"]
    return subprocess.Popen(
        ["weed", "server", *words, *ports, *grpc, *off, *limits], stdout=log, stderr=log, cwd=folder
    )


def wait(ready, folder):
    until = time.monotonic() + 60
    while True:
        try:
            return ready()
        except Exception:
            if time.monotonic() > until:
                print((folder / "log").read_text()[-3000:])
                raise
            time.sleep(0.2)


@pytest.fixture(scope="session")
def template(parts):
    """Name of a database with MLflow's empty tables, to copy."""
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    with parts.maintenance() as connection:
        connection.execute("create database empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(parts.password_file))
        engine = sqlalchemy.create_engine(parts.url("empty"))
        _initialize_tables(engine)
        engine.dispose()
    with parts.maintenance() as connection:
        connection.execute("alter database empty is_template true")
    return "empty"


@pytest.fixture
def make_stores(parts, template):
    """A function that returns stores with a new database, which has MLflow's tables, and an empty bucket."""
    made = []

    def make():
        name = f"test{time.monotonic_ns()}"
        with parts.maintenance() as connection:
            connection.execute(f"create database {name} template {template}")
        parts.s3().create_bucket(Bucket=name)
        made.append(replace(parts, database=name, bucket=name))
        insert(made[-1], "experiments", experiment_id=0, name="Default", lifecycle_stage="active", workspace="default")
        return made[-1]

    yield make
    with parts.maintenance() as connection:
        for name in parts.databases():
            connection.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def stores(make_stores):
    return make_stores()
