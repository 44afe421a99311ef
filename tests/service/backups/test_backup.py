import errno
import hashlib
import json
import os
import signal
from dataclasses import replace

import pytest

from tests.service.backups.filled import add_run, insert, put
from trainer.core.errors import TrackingError
from trainer.service.backups import files as backup_files
from trainer.service.backups.artifact_copier import ArtifactCopier
from trainer.service.backups.backup import back_up, report_backup
from trainer.service.backups.files import Backup, find_backups
from trainer.service.stores import StoredObject, Stores


def inodes(folder):
    return {path.name: path.stat().st_ino for path in (folder / "artifacts").rglob("*") if path.is_file()}


def test_backup_has_databases_and_artifacts(stores, tmp_path):
    put(stores, {"1/a": b"one", "1/b": b"one", "odd/ü key's": b"two"})
    for _ in range(2):
        add_run(stores)

    made = back_up(stores, tmp_path, keep=3)

    assert made == Backup.read(made.folder)
    assert made.manifest.databases[stores.database].rows["runs"] == 2
    assert {one.key: one.size for one in made.artifacts()} == {"1/a": 3, "1/b": 3, "odd/ü key's": 3}
    assert {(made.folder / one.file).read_bytes() for one in made.artifacts()} == {b"one", b"two"}
    assert made.manifest.artifacts == 3
    assert list(made.find_damage()) == []


def test_unchanged_artifacts_are_links(stores, tmp_path):
    put(stores, {"1/a": b"one", "1/b": b"two"})
    first = back_up(stores, tmp_path, keep=3)
    put(stores, {"1/b": b"TWO", "1/c": b"one"})
    second = back_up(stores, tmp_path, keep=3)

    assert {one.key for one in second.artifacts()} == {"1/a", "1/b", "1/c"}
    shared = inodes(first.folder).items() & inodes(second.folder).items()
    assert {name for name, _ in shared} == {hashlib.sha256(b"one").hexdigest()}
    assert list(first.find_damage()) == list(second.find_damage()) == []


def test_newest_are_kept(stores, tmp_path):
    put(stores, {"1/a": b"one"})
    made = [back_up(stores, tmp_path, keep=2).folder for _ in range(3)]

    assert find_backups(tmp_path) == made[1:]
    assert list(Backup.read(made[2]).find_damage()) == []


def last(folder):
    return json.loads((folder / "last.json").read_text())


def test_result_is_written(stores, tmp_path):
    put(stores, {"1/a": b"one"})

    made = report_backup(stores, tmp_path, keep=3)

    written = last(tmp_path)
    assert written["ok"] is True
    assert made.folder.name in written["what"]
    assert written["bytes"] > made.manifest.artifact_bytes == 3
    assert made.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "away", [{"port": 1}, {"endpoint": "http://127.0.0.1:1"}, {"bucket": "nothing"}, {"secret_key": "wrong"}]
)
def test_unreachable_store_is_a_failure_and_no_backup(stores, tmp_path, away):
    with pytest.raises(TrackingError) as caught:
        report_backup(replace(stores, **away), tmp_path, keep=3)

    assert last(tmp_path)["ok"] is False
    assert last(tmp_path)["what"] == str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["last.json"]


def test_full_disk_is_a_failure_and_no_backup(stores, tmp_path, monkeypatch):
    put(stores, {"1/a": b"one"})

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(backup_files, "file_digest", full)

    with pytest.raises(OSError, match="No space left"):
        report_backup(stores, tmp_path, keep=3)

    assert "No space left" in last(tmp_path)["what"]
    assert find_backups(tmp_path) == []


def test_what_a_killed_backup_left_does_not_count_and_goes(stores, tmp_path):
    left = tmp_path / ".partial-2026-01-01T00-00-00Z"
    left.mkdir()
    (left / "manifest.json").write_text("{}")

    made = back_up(stores, tmp_path, keep=3)

    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [made.folder]


def test_artifact_without_content_is_a_failure(stores, tmp_path, monkeypatch):
    """A lost volume of the object store must not become a backup without its artifacts."""
    put(stores, {"1/a": b"one"})
    listed = StoredObject("1/a", 3, "etag", 0.0)
    gone = replace(listed, key="1/gone")
    monkeypatch.setattr(Stores, "objects", lambda *_: [listed, gone])

    assert [one.key for one in back_up(stores, tmp_path, keep=3).artifacts()] == ["1/a"]

    monkeypatch.setattr(ArtifactCopier, "_is_listed", lambda *_: True)
    with pytest.raises(TrackingError, match="1/gone"):
        back_up(stores, tmp_path, keep=3)


def test_places_outside_the_bucket_are_named(stores, tmp_path):
    add_run(stores)
    insert(
        stores,
        "experiments",
        experiment_id=1,
        name="other",
        lifecycle_stage="active",
        workspace="default",
        artifact_location="s3://elsewhere/1",
    )

    assert back_up(stores, tmp_path, keep=3).manifest.outside == ["s3://elsewhere"]


def test_stopped_backup_is_a_failure(stores, tmp_path, monkeypatch):
    def stopped(*_):
        raise SystemExit(128 + signal.SIGTERM)

    monkeypatch.setattr(Stores, "objects", stopped)

    with pytest.raises(SystemExit):
        report_backup(stores, tmp_path, keep=3)

    assert last(tmp_path)["what"] == "stopped by SIGTERM"
    assert [path.name for path in tmp_path.iterdir()] == ["last.json"]
