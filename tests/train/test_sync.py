"""The sync command over several run folders; tests/tracking tests the delivery of one."""

import pytest

from trainer import sync
from trainer.core.errors import TrackingError
from trainer.tracking.event_log import EventLog


@pytest.fixture
def output(tmp_path, monkeypatch):
    """A folder with three run folders, where the delivery of `bad` fails."""
    output = tmp_path / "runs"
    for name in ("good", "bad", "done"):
        with EventLog(output / name) as log:
            log.append(name, "open", {"uri": "http://host"})

    def deliver(folder):
        if folder.name == "bad":
            raise TrackingError("no permission on http://there")
        return 7 if folder.name == "good" else 0

    monkeypatch.setattr(sync, "sync", deliver)
    return output


def test_a_folder_that_fails_fails_the_command_and_not_the_other_folders(output, capsys):
    assert sync.main([f"--output={output}"]) == 1
    shown = capsys.readouterr()
    assert "no permission on http://there" in shown.err
    assert "good: 7" in " ".join(shown.out.split())
    assert "done:" not in shown.out


def test_delivered_folders_end_the_command_with_success(output, capsys):
    assert sync.main([f"--output={output / 'good'}"]) == 0
    assert sync.main([f"--output={output / 'done'}"]) == 0


def test_a_run_in_progress_is_skipped(output, monkeypatch, capsys):
    monkeypatch.setattr(sync, "is_locked", lambda folder: folder.name == "bad")
    assert sync.main([f"--output={output}"]) == 0
    assert "bad: skipped" in " ".join(capsys.readouterr().out.split())


def test_a_folder_without_runs_is_an_error(tmp_path, capsys):
    assert sync.main([f"--output={tmp_path}"]) == 1
    assert str(tmp_path.name) in capsys.readouterr().err.replace("\n", "")
