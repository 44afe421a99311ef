"""Accounts of the tracking server are let in, also for a while when it is away; everybody else is not."""

import pytest
import requests

from registry.serving import login as module
from registry.serving.login import Login

GOOD = "Basic Z29vZA=="


class Server:
    """Answers requests like the tracking server; `status` None: it is away."""

    def __init__(self):
        self.status, self.asked = 200, 0

    def get(self, url, auth, **_):
        self.asked += 1
        request = auth(requests.Request("GET", url).prepare())
        if self.status is None:
            raise requests.ConnectionError
        answer = requests.Response()
        answer.status_code = self.status if request.headers["Authorization"] == GOOD else 401
        return answer


@pytest.fixture
def server(monkeypatch):
    one = Server()
    monkeypatch.setattr(requests, "get", one.get)
    return one


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_an_account_is_asked_about_once_a_minute(server, clock):
    login = Login("https://mlflow.example.org/mlflow")

    assert [login.check(GOOD) for _ in range(5)] == ["accepted"] * 5
    assert server.asked == 1
    clock[0] = 61
    assert login.check(GOOD) == "accepted"
    assert server.asked == 2


@pytest.mark.parametrize("header", ["", "Basic YmFk", "Bearer x"])
def test_others_are_refused_and_not_remembered(server, header):
    login = Login("https://mlflow.example.org")

    assert login.check(header) == "refused"
    assert login._accepted == {}


def test_an_account_that_was_deleted_is_refused_after_a_minute(server, clock):
    login = Login("https://mlflow.example.org")
    login.check(GOOD)
    server.status, clock[0] = 401, 61

    assert login.check(GOOD) == "refused"
    server.status = None
    assert login.check(GOOD) == "unknown"


def test_known_accounts_are_let_in_while_the_server_is_away(server, clock):
    login = Login("https://mlflow.example.org")
    login.check(GOOD)
    server.status, clock[0] = None, 3000

    assert login.check(GOOD) == "accepted"
    assert login.check("Basic b3RoZXI=") == "unknown"
    clock[0] = 3601
    assert login.check(GOOD) == "unknown"


def test_no_password_is_kept(server):
    login = Login("https://mlflow.example.org")
    login.check(GOOD)

    assert GOOD.encode() not in b"".join(login._accepted)
