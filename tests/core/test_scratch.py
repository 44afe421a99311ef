import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from trainer.core.scratch import remove_abandoned, scratch_folder
from trainer.core.signals import raise_stops

_HOLD = """
import sys
from trainer.core.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "weights").write_bytes(b"0" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_kept(temporary):
    command = [sys.executable, "-c", _HOLD]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as process:
        folder = Path(process.stdout.readline().strip())

        remove_abandoned()
        assert (folder / "weights").stat().st_size == 1000

        process.send_signal(signal.SIGKILL)
        process.wait()
        assert folder.is_dir()

        remove_abandoned()
        assert list(temporary.iterdir()) == []


def test_it_is_removed_after_the_block_and_after_an_error(temporary):
    with pytest.raises(FileExistsError), scratch_folder() as folder:
        folder.mkdir()

    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("moment", ["mkdtemp", "flock", "rmtree"])
def test_a_stop_at_any_moment_leaves_nothing(temporary, monkeypatch, moment):
    module = {"mkdtemp": tempfile, "flock": fcntl, "rmtree": shutil}[moment]
    call = getattr(module, moment)

    def stopped(*parts, **more):
        result = call(*parts, **more)
        signal.raise_signal(signal.SIGTERM)
        return result

    monkeypatch.setattr(module, moment, stopped)
    with pytest.raises(SystemExit), raise_stops(), scratch_folder():
        assert moment == "rmtree", "the stop comes before the block"

    assert list(temporary.iterdir()) == []


def test_links_and_other_folders_are_left_alone(temporary, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "file").touch()
    (temporary / "emotions-scratch-link").symlink_to(elsewhere)
    (temporary / "tmpabcd").mkdir()

    remove_abandoned()

    assert (elsewhere / "file").exists()
    assert {path.name for path in temporary.iterdir()} == {"emotions-scratch-link", "tmpabcd"}
