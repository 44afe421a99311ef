"""The folder of one backup, written by `backup`, read by `restore` and its verification.

    TIME/manifest.json         versions, schema revisions, and size and sha256 of the files below
    TIME/databases/NAME.dump   what `pg_dump --format custom` wrote, one file for each database
    TIME/artifacts.json        key, size, etag and sha256 of every object of the bucket
    TIME/artifacts/ab/abcd…    their contents, each under its sha256

Equal contents are one file, and a file of an unchanged object is a hard link to that of the backup before: each folder
is complete on its own, and deleting one leaves the others as they are.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from trainer.core.errors import SettingsError, shorten
from trainer.core.text_files import write_json

__all__ = ["Artifact", "Backup", "Database", "Manifest", "file_digest", "find_backups", "newest_backup", "summarize"]

MANIFEST, ARTIFACTS_LIST, ARTIFACTS, DATABASES = "manifest.json", "artifacts.json", "artifacts", "databases"
TIME_FORMAT = "%Y-%m-%dT%H-%M-%SZ"
_NAME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z")
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Database:
    """One dumped database."""

    size: int
    sha256: str
    rows: dict[str, int]
    """Table → its number of rows in the transaction that was dumped."""
    owner: str


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One object of the bucket."""

    key: str
    size: int
    etag: str
    sha256: str

    @property
    def file(self) -> str:
        """Path of its content in the folder of the backup."""
        return f"{ARTIFACTS}/{self.sha256[:2]}/{self.sha256}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup has."""

    format: int = _FORMAT
    time: str
    mlflow: str
    """Version of MLflow."""
    postgresql: int
    """Major version of the server."""
    database: str
    """Name of MLflow's database."""
    revisions: dict[str, str]
    """Revision of the schema of MLflow, and of its accounts."""
    databases: dict[str, Database]
    artifacts: int
    """Number of objects."""
    artifact_bytes: int
    artifacts_sha256: str
    """Of artifacts.json."""
    outside: list[str] = field(default_factory=list)
    """Places of artifacts outside the bucket, which the backup lacks."""


@dataclass(frozen=True)
class Backup:
    """One backup in its folder."""

    folder: Path
    manifest: Manifest

    @classmethod
    def read(cls, folder: Path) -> "Backup":
        """Return the backup in a folder. Raises SettingsError when there is none, or one of a newer version."""
        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise SettingsError(
                    f"The backup {folder} has format {shorten(content['format'])}, this version reads {_FORMAT}. Use "
                    "the version of the project that made it."
                )
            content["databases"] = {name: Database(**one) for name, one in content["databases"].items()}
            return cls(folder, Manifest(**content))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"`backup` must be a folder that backup.sh made, got {shorten(folder)} ({shorten(error)})."
            ) from error

    def write(self) -> None:
        """Write the manifest."""
        write_json(self.folder / MANIFEST, asdict(self.manifest))

    def dump(self, database: str) -> Path:
        """Return the file of a database."""
        return dump_file(self.folder, database)

    def artifacts(self) -> list[Artifact]:
        """Return the objects that were in the bucket."""
        return [Artifact(**one) for one in json.loads((self.folder / ARTIFACTS_LIST).read_text(encoding="utf-8"))]

    def find_damage(self) -> Iterator[str]:
        """Yield a sentence for each file that is missing or differs from what the manifest says."""
        expected = {dump_file(self.folder, name): one.sha256 for name, one in self.manifest.databases.items()}
        expected[self.folder / ARTIFACTS_LIST] = self.manifest.artifacts_sha256
        damaged = [path for path, sha256 in expected.items() if not _is_intact(path, sha256)]
        if self.folder / ARTIFACTS_LIST not in damaged:
            contents = {self.folder / one.file: one.sha256 for one in self.artifacts()}
            damaged += [path for path, sha256 in contents.items() if not _is_intact(path, sha256)]
        for path in damaged:
            name = path.relative_to(self.folder)
            yield f"{name} {'has another content' if path.is_file() else 'is missing'}"


def write_artifacts(folder: Path, artifacts: Sequence[Artifact]) -> str:
    """Write the list of objects and return its sha256."""
    return file_digest(write_json(folder / ARTIFACTS_LIST, [asdict(one) for one in artifacts]))


def dump_file(folder: Path, database: str) -> Path:
    """Return the file of a database in the folder of a backup."""
    return folder / DATABASES / f"{quote(database, safe='')}.dump"


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_backups(folder: Path) -> list[Path]:
    """Return the folders of complete backups, oldest first."""
    return sorted(path for path in folder.glob("*") if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file())


def newest_backup(folder: Path) -> Path | None:
    """Return the folder of the newest complete backup; None without one."""
    return next(reversed(find_backups(folder)), None)


def summarize(manifest: Manifest) -> str:
    """Return the counts that people know."""
    rows = manifest.databases[manifest.database].rows
    return f"{rows['runs']} runs, {rows['model_versions']} model versions, {manifest.artifacts} artifacts"


def _is_intact(path: Path, sha256: str) -> bool:
    return path.is_file() and file_digest(path) == sha256
