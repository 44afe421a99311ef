"""A change of state is said once, and a check that hangs is a dead part."""

from datetime import UTC, datetime, timedelta

from trainer.core.errors import TrackingError
from trainer.service.health import watch
from trainer.service.health.checks import Result
from trainer.service.health.watch import Alarm, Watched, change_of

START = datetime(2026, 11, 1, tzinfo=UTC)


def said(states, alarm=None):
    """Texts about a part in these states, looked at every minute."""
    alarm = alarm or Alarm()
    looks = [
        change_of("disk", alarm, Result(state, state), START + timedelta(minutes=i)) for i, state in enumerate(states)
    ]
    return [text for text in looks if text]


def test_each_change_is_said_once():
    assert said(["ok"] * 9) == []
    (dead,) = said(["dead"] * 9)
    assert dead.startswith("ALERT: disk")
    (warning,) = said(["warning"] * 9)
    assert warning.startswith("Warning: disk")


def test_it_is_said_when_all_is_well_again():
    first, then = said(["dead"] * 5 + ["ok"] * 5)
    assert first.startswith("ALERT")
    assert "well again, after 5 minutes" in then


def test_a_part_that_is_restarted_is_no_event():
    assert said(["ok", "dead", "ok", "dead", "ok", "ok"]) == []


def test_from_warning_to_dead_is_a_change():
    assert [text.split(":")[0] for text in said(["warning"] * 7 + ["dead"] * 3)] == ["Warning", "ALERT"]


def fail():
    raise TrackingError("The database at 10.0.0.7:5432 does not answer (password of mlflow).")


def test_a_part_that_fails_is_dead_and_its_error_is_not_public():
    part = Watched("database", fail)
    part.run()

    assert part.result == Result("dead", "does not answer (TrackingError)")


def test_a_check_that_hangs_is_dead(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    part = Watched("database", lambda: Result("ok", "answers"))
    assert part.result.state == "warning"  # not checked yet
    part.run()
    assert part.result.state == "ok"

    now[0] = 60.0

    assert part.result.state == "dead"
