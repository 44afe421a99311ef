import signal
import threading

import pytest

from trainer.core import signals

_LONGEST_SECONDS = 60


class Stopped:
    """An object in whose destructor a signal arrives."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_stop_that_python_loses_in_a_destructor_is_raised_after_it_and_not_printed(number, error, capsys):
    reached = []

    def work():
        Stopped(number)
        reached.append("after the destructor")
        threading.Event().wait(_LONGEST_SECONDS)
        reached.append("the end")

    with signals.raise_stops(), pytest.raises(error) as caught:
        work()

    assert signals.is_stop(caught.value)
    assert reached == ["after the destructor"]
    assert "ignored" not in capsys.readouterr().err


def test_other_errors_of_destructors_are_still_reported(monkeypatch):
    class Broken:
        def __del__(self):
            raise ValueError("3")

    reported = []
    monkeypatch.setattr("sys.unraisablehook", lambda lost: reported.append(str(lost.exc_value)))

    with signals.raise_stops():
        Broken()

    assert reported == ["3"]
