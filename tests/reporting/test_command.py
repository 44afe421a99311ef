import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.core import signals
from trainer.core.errors import DataError
from trainer.reporting.command import run_cli


def raising(error):
    def command(_words):
        raise error

    return command


def test_help_ends_with_the_setting_that_every_command_has(capsys):
    with pytest.raises(SystemExit):
        run_cli(raising(SystemExit(0)), ["--help"])

    assert "--debug {true,false}" in capsys.readouterr().out


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_is_the_commands_own(returned, status):
    assert run_cli(lambda _words: returned, []) == status


def test_words_are_those_given_else_those_of_the_process(monkeypatch):
    monkeypatch.setattr("sys.argv", ["tune", "--trials", "3"])
    seen = []
    run_cli(seen.append, ["--trials", "4"])
    run_cli(seen.append, None)

    assert seen == [["--trials", "4"], ["--trials", "3"]]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("rows must be there, but got rows=0. Add some."), "rows must be there"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on the device"),
        (Exception("No space left on device (os error 28)"), "No space left on the device"),  # of Rust code
    ],
)
def test_what_the_user_can_mend_is_one_message(error, message, capsys):
    passed_on = []
    assert run_cli(raising(error), [], passed_on.append) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert passed_on == [error]


def fail_to_copy(_words):
    """Fail as MLflow does when the disk fills while it copies the code of a model."""
    try:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/" + "very-long-name/" * 60)
        raise shutil.Error([("/source", full.filename, str(full))])
    except OSError as error:
        raise RuntimeError("Failed to copy the specified code path " + "x" * 500) from error


def test_a_full_disk_is_named_behind_the_error_of_a_library(capsys):
    assert run_cli(fail_to_copy, []) == 1

    text = " ".join(capsys.readouterr().err.split())
    assert "No space left on the device" in text
    assert "code path" not in text
    assert len(text) <= 300


@pytest.fixture(autouse=True)
def no_debug(monkeypatch):
    monkeypatch.setenv("EMOTIONS_DEBUG", "")


@pytest.mark.parametrize("number", signals.STOP_SIGNALS)
def test_the_first_signal_ends_the_command_and_later_ones_change_nothing(number, capsys):
    passed_on, closed = [], []

    def command(_words):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            for again in signals.STOP_SIGNALS:
                os.kill(os.getpid(), again)
            closed.append(True)

    before = [signal.getsignal(each) for each in signals.STOP_SIGNALS]
    assert run_cli(command, [], passed_on.append) == 128 + number
    assert closed == [True]
    assert signals.is_stop(passed_on[0])
    assert [signal.getsignal(each) for each in signals.STOP_SIGNALS] == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("defect", [ValueError("x " * 1000), OSError(errno.EACCES, "no"), MemoryError()])
def test_a_defect_is_one_line_and_its_traceback_a_file(defect, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_cli(raising(defect), []) == 1
    said = capsys.readouterr().err
    assert type(defect).__name__ in said
    assert "debug=true" in said
    assert "Traceback" not in said
    assert len(said) < 600
    (file,) = tmp_path.iterdir()
    assert str(file) in said.replace("\n", "")
    assert "Traceback" in file.read_text()
    assert "def command" not in said


@pytest.mark.parametrize("words", [["--debug", "true"], ["--debug=true"]])
def test_debug_prints_the_traceback_and_is_no_word_of_the_command(words, capsys):
    seen = []

    def command(given):
        seen.append(given)
        raise DataError("rows")

    assert run_cli(command, ["--a", "b", *words]) == 1
    assert seen == [["--a", "b"]]
    assert "Traceback" in capsys.readouterr().err
    assert os.environ["EMOTIONS_DEBUG"] == "true"  # inherited by child processes


def test_debug_must_be_a_boolean(capsys):
    assert run_cli(lambda _: 0, ["--debug", "loud"]) == 1
    assert "`debug` must be true or false, got loud" in capsys.readouterr().err


_PRINTS = """
import sys
from pathlib import Path
from trainer.reporting import console
from trainer.reporting.command import run_cli

def command(folder):
    screen = console.make()
    for number in range(20_000):
        screen.show_note("line")
        print("line")
        print("line", file=sys.stderr)
    opened = open(folder[0] + "/written", "w")
    opened.write(str(opened.fileno()))

sys.exit(run_cli(command, sys.argv[1:]))
"""


@pytest.mark.parametrize("shell", ["| head -1", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full 2>&1"])
def test_lost_output_does_not_end_the_command(shell, tmp_path, root):
    command = f'set -o pipefail; "$0" -c "$1" "$2" {shell}'
    words = ["bash", "-c", command, sys.executable, _PRINTS, str(tmp_path)]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(Path(tmp_path, "written").read_text()) > 2  # no file has the number of a standard stream
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
