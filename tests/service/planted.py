"""Secrets that are used for real, and a search for them in everything that commands and a service leave."""

import base64
import contextlib
import threading
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = ["ProcessWatch", "Secret", "find_in_database", "find_in_files", "find_in_objects", "find_in_text"]

_ODD_CHARACTERS = "/'\"@%: wörd?#&+"
_ASCII_CHARACTERS = _ODD_CHARACTERS.replace("ö", "o")
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Secret:
    """A password or token. Both of its ends are unique texts without odd characters.

    Every spelling of it in URLs, JSON, SQL or a shell contains them, and a part of it too when only its end was hidden.
    """

    name: str
    text: str
    ends: tuple[str, ...]

    @classmethod
    def make(cls, name: str, *, ascii_only: bool = False) -> "Secret":
        """A new secret with odd characters."""
        ends = (uuid.uuid4().hex, uuid.uuid4().hex)
        return cls(name, (_ASCII_CHARACTERS if ascii_only else _ODD_CHARACTERS).join(ends), ends)

    @property
    def quoted(self) -> str:
        """The secret as a URL has it."""
        return urllib.parse.quote(self.text, safe="")

    def stands_in(self, content: bytes) -> bool:
        """Return whether an end of it is in the content, also in base64, as a header has it."""
        return any(form in content for end in self.ends for form in (end.encode(), *_base64_forms(end.encode())))


def _base64_forms(text: bytes) -> Iterator[bytes]:
    """The text in base64 after 0, 1 and 2 other bytes, without the characters that depend on its neighbours."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text)
        yield encoded[(0, 2, 3)[before] :].rstrip(b"=")[:-2]


@dataclass
class ProcessWatch:
    """Looks at the command lines of all processes until it is closed."""

    secrets: Iterable[Secret]
    found: set[str] = field(default_factory=set)
    looks: int = 0

    def __enter__(self) -> "ProcessWatch":
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(_LOOK_SECONDS):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    self.found |= set(find_in_text(self.secrets, {process.name(): " ".join(process.cmdline())}))
            self.looks += 1


def find_in_text(secrets: Iterable[Secret], texts: Mapping[str, str]) -> list[str]:
    """Return which secret stands in which of the named texts."""
    return [
        f"{secret.name} in {name}"
        for name, text in texts.items()
        for secret in secrets
        if secret.stands_in(text.encode())
    ]


def find_in_files(secrets: Iterable[Secret], folder: Path, without: Iterable[Path] = ()) -> tuple[list[str], int]:
    """Return which secret stands in which file or name of a file, and how many files were read."""
    found, count = [], 0
    for path in folder.rglob("*"):
        if path.is_symlink() or any(path.is_relative_to(place) for place in without):
            continue
        content = path.name.encode()
        if path.is_file():
            content += b"\n" + path.read_bytes()
            count += 1
        found += [f"{secret.name} in {path}" for secret in secrets if secret.stands_in(content)]
    return found, count


def find_in_database(secrets: Iterable[Secret], **connection: object) -> tuple[list[str], int]:
    """Return which secret stands in which table of a PostgreSQL database, and how many tables were read."""
    import psycopg
    from psycopg import sql

    found, count = [], 0
    with psycopg.connect(**connection) as database:
        tables = database.execute("select table_name from information_schema.tables where table_schema = 'public'")
        for (name,) in tables.fetchall():
            with database.cursor().copy(sql.SQL("copy {} to stdout").format(sql.Identifier(name))) as rows:
                content = b"".join(bytes(row) for row in rows)
            count += 1
            found += [f"{secret.name} in table {name}" for secret in secrets if secret.stands_in(content)]
    return found, count


def find_in_objects(secrets: Iterable[Secret], client: object, buckets: Iterable[str]) -> tuple[list[str], int]:
    """Return which secret stands in which object of S3 buckets, and how many objects were read."""
    found, count = [], 0
    for bucket in buckets:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", []):
                content = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                count += 1
                found += [f"{one.name} in {item['Key']}" for one in secrets if one.stands_in(content)]
    return found, count
