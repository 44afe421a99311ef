import errno

import pytest

from trainer.core.errors import DataError
from trainer.reporting.command import run_cli


def raising(error):
    def command(_words):
        raise error

    return command


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
    ],
)
def test_what_the_user_can_mend_is_one_message(error, message, capsys):
    passed_on = []
    assert run_cli(raising(error), [], passed_on.append) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert passed_on == ([error] if isinstance(error, DataError) else [])


def test_ctrl_c_is_what_a_shell_reports():
    assert run_cli(raising(KeyboardInterrupt()), []) == 130


@pytest.mark.parametrize("defect", [ValueError("x"), OSError(errno.EACCES, "no")])
def test_a_defect_keeps_its_traceback(defect):
    with pytest.raises(type(defect)):
        run_cli(raising(defect), [])
