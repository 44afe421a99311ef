"""Wrong logins stop being checked, and right ones do not."""

import pytest

from trainer.service.accounts.failed_logins import SECONDS, FailedLogins

SOURCE, WRONG, RIGHT = ("10.0.0.1", "ann"), ("ann", b"wrong"), ("ann", b"right")


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def logins(clock):
    counted = FailedLogins(timer=lambda: clock[0])
    counted.add(SOURCE, RIGHT, is_right=True)
    for _ in range(10):
        assert not counted.is_refused(SOURCE, WRONG)
        counted.add(SOURCE, WRONG, is_right=False)
    return counted


def test_the_tenth_wrong_login_is_the_last_that_is_checked(logins, clock):
    assert logins.is_refused(SOURCE, WRONG)
    assert logins.is_refused(SOURCE, ("ann", b"another"))

    clock[0] += SECONDS

    assert not logins.is_refused(SOURCE, WRONG)


@pytest.mark.parametrize("source", [("10.0.0.2", "ann"), ("10.0.0.1", "bob")])
def test_another_address_or_user_is_checked(logins, source):
    assert not logins.is_refused(source, (source[1], b"another"))


def test_a_login_that_was_right_is_checked(logins):
    assert not logins.is_refused(SOURCE, RIGHT)


def test_a_password_that_became_wrong_is_counted(logins):
    logins.add(SOURCE, RIGHT, is_right=False)

    assert logins.is_refused(SOURCE, RIGHT)
