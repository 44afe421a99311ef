"""The data of the tracking server: its PostgreSQL databases and its bucket of artifacts."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.core.errors import TrackingError, shorten

if TYPE_CHECKING:
    import psycopg

__all__ = ["StoredObject", "Stores"]

_LOCK = 0x656D6F74  # any number that no other program locks in this PostgreSQL server
_MAINTENANCE = "postgres"  # the database that every server has, for statements about the others
_TIMEOUT = 10  # seconds


@dataclass(frozen=True)
class StoredObject:
    """One object of the bucket, as a listing shows it."""

    key: str
    size: int
    etag: str
    modified: float
    """Seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where PostgreSQL and the S3 server of the service are. Passwords are in files and never on a command line."""

    host: str
    port: int
    user: str
    database: str
    """MLflow's database, which has the tables of the accounts too."""
    password_file: Path
    """PGPASSFILE."""
    endpoint: str
    """URL of the S3 server."""
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    bucket: str

    @contextmanager
    def lock(self, what: str) -> Iterator[None]:
        """Hold the one lock of backup, restore, clean-up and upgrade. It ends with the process.

        Raises TrackingError when another of them holds it.
        """
        with self.connect(_MAINTENANCE) as connection:
            row = connection.execute("select pg_try_advisory_lock(%s)", [_LOCK]).fetchone()
            if row is None or not row[0]:
                raise TrackingError(
                    f"Cannot begin the {what}: another backup, restore, clean-up or upgrade of this service is in "
                    "progress. Wait for its end."
                )
            yield

    @contextmanager
    def connect(self, database: str | None = None) -> "Iterator[psycopg.Connection[Any]]":
        """Open a connection to a database of the server, MLflow's own by default. Statements commit by themselves.

        Raises TrackingError when the server does not answer.
        """
        import psycopg

        try:
            with psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                dbname=database or self.database,
                passfile=str(self.password_file),
                connect_timeout=_TIMEOUT,
                autocommit=True,
            ) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise TrackingError(
                f"The database at {self.host}:{self.port} does not answer ({shorten(error)}). Start the service, then "
                "run the same command again."
            ) from error

    def url(self, database: str | None = None) -> str:
        """Return the URL of a database for SQLAlchemy, which reads the password from PGPASSFILE."""
        return f"postgresql://{self.user}@{self.host}:{self.port}/{database or self.database}"

    def databases(self) -> list[str]:
        """Return the names of the databases with data: MLflow's, and others on its server such as Optuna's."""
        with self.connect(_MAINTENANCE) as connection:
            rows = connection.execute(
                "select datname from pg_database where not datistemplate and datallowconn and datname <> %s order by 1",
                [_MAINTENANCE],
            ).fetchall()
        return [str(name) for (name,) in rows]

    @contextmanager
    def maintenance(self) -> "Iterator[psycopg.Connection[Any]]":
        """Open a connection for statements about whole databases."""
        with self.connect(_MAINTENANCE) as connection:
            yield connection

    def run(self, program: str, *words: str) -> None:
        """Run a program of PostgreSQL, such as pg_dump, against this server.

        Raises TrackingError with its last message when it fails.
        """
        where = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user}
        environment = {**os.environ, **where, "PGPASSFILE": str(self.password_file), "LC_ALL": "C"}
        done = subprocess.run(
            [postgres_program(program), "--no-password", *words],
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise TrackingError(f"{program} failed ({shorten(reason, 200)}).")

    def s3(self) -> Any:
        """Return a client of the S3 server."""
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=_TIMEOUT, read_timeout=60, retries={"max_attempts": 5}, max_pool_connections=20)
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=config,
        )

    def objects(self, client: Any) -> list[StoredObject]:
        """Return every object of the bucket, by key. Raises TrackingError when the S3 server does not answer."""
        with object_errors("list the artifacts"):
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            found = [
                StoredObject(item["Key"], item["Size"], item["ETag"].strip('"'), item["LastModified"].timestamp())
                for page in pages
                for item in page.get("Contents", [])
            ]
        return sorted((one for one in found if not one.key.endswith("/")), key=lambda one: one.key)


@contextmanager
def object_errors(action: str) -> Iterator[None]:
    """Turn errors of the S3 client into TrackingError: cannot `action`, why, what to do."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except (BotoCoreError, ClientError, HTTPClientError) as error:
        raise TrackingError(
            f"Cannot {action} in the object store ({shorten(error, 160)}). Check that it runs, then run the same "
            "command again."
        ) from error


def postgres_program(name: str) -> str:
    """Return the path of a program of the newest PostgreSQL on this machine.

    Debian keeps the versions beside each other, and its own choice on PATH may be older than the server.
    """
    versions = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    newest = max(versions, key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0), default=None)
    found = str(newest) if newest else shutil.which(name)
    if found is None:
        raise TrackingError(f"Cannot find {name}. Install PostgreSQL's programs: apt-get install postgresql-client.")
    return found


def table_counts(connection: "psycopg.Connection[Any]") -> Mapping[str, int]:
    """Return the number of rows of every table of a database."""
    from psycopg import sql

    tables = connection.execute("select tablename from pg_tables where schemaname = 'public' order by 1").fetchall()
    counts = {}
    for (table,) in tables:
        row = connection.execute(sql.SQL("select count(*) from {}").format(sql.Identifier(table))).fetchone()
        counts[str(table)] = int(row[0]) if row else 0
    return counts
