"""Artifacts come from the run folder where it has them, else from the server, once."""

from pathlib import Path

import pytest

from trainer.core.errors import DataError
from trainer.runs.download import fetch_artifacts

NAMES = ("config.json", "predictions/dev.parquet")


class Server:
    """Has the artifacts in `files`; `asked` has the names asked for."""

    def __init__(self, *files):
        self.files, self.asked = files, []

    def download_artifacts(self, run_id, name, folder):
        self.asked.append(name)
        if name not in self.files:
            raise OSError(f"No such artifact: '{name}'")
        target = f"{folder}/{name.rpartition('/')[2]}"
        Path(target).write_text(run_id)
        return target


def test_a_run_folder_with_all_files_is_taken(tmp_path):
    for name in NAMES:
        (tmp_path / "r1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r1" / name).write_text("")
    assert fetch_artifacts(Server(), "r1", NAMES, tmp_path) == tmp_path / "r1"


def test_missing_files_are_downloaded_once(tmp_path):
    (tmp_path / "r1").mkdir()
    server = Server(*NAMES)
    for _ in range(2):
        folder = fetch_artifacts(server, "r1", NAMES, tmp_path)
    assert server.asked == list(NAMES)
    assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()] == list(NAMES)
    assert (folder.name, (folder / NAMES[1]).read_text()) == ("r1", "r1")


def test_a_file_that_the_server_lacks_is_named(tmp_path):
    with pytest.raises(DataError, match=r"predictions/dev\.parquet of run r1"):
        fetch_artifacts(Server(NAMES[0]), "r1", NAMES, tmp_path)
