import hashlib

from tests.service.backups.filled import add_run, put
from trainer.service.backup import back_up
from trainer.service.backup_files import Backup, find_backups


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
