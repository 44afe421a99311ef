"""The edge against bad input: refused with the right status, counted in its log, while others are answered."""

import base64
import contextlib
import select
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.tracking.tracking_helpers import wait_for

pytestmark = pytest.mark.service

_SEARCH = "/api/2.0/mlflow/experiments/search"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_IDLE = 600
_ATTACKERS = 40
_ATTEMPTS = 5
_CHUNK = 2**20


@pytest.fixture(autouse=True)
def _others_are_answered(service):
    """A client with its login gets answers while a test attacks, and after it."""
    over, slow = threading.Event(), []

    def ask():
        while not over.wait(0.2):
            began = time.monotonic()
            status = search(service).status_code
            slow.append((status, time.monotonic() - began))

    asking = threading.Thread(target=ask)
    asking.start()
    yield
    over.set()
    asking.join()
    assert {status for status, _ in slow} <= {200}
    assert search(service).status_code == 200


def search(service, **options):
    return service.request("POST", _SEARCH, json={"max_results": 1}, **options)


def counted(service, words):
    """How many lines of the edge's log contain the words."""
    return sum(words in line for line in service.log("edge").splitlines())


def wait_until_counted(service, words, before):
    """The supervisor writes the log soon after the answer."""
    wait_for(lambda: counted(service, words) > before)


@contextlib.contextmanager
def connection(service, *, tls=True):
    """An open connection to the edge, as a socket."""
    address = urlsplit(service.url)
    context = ssl.create_default_context(cafile=str(service.ca_file))
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 a server sends something unasked, which `select` sees
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=60))
        yield stack.enter_context(context.wrap_socket(raw, server_hostname=address.hostname)) if tls else raw


def send(service, text, **options):
    """The status of the answer to a request as written."""
    with connection(service, **options) as opened:
        with contextlib.suppress(ConnectionError):  # it has answered and reads no more
            opened.sendall(text.encode("latin-1"))
        return status_of(opened)


def status_of(opened):
    answer = opened.makefile("rb").readline().split()
    return int(answer[1]) if len(answer) > 1 else None


def head(service, user="admin"):
    """The headers of a request with a login; `user=None` for one without."""
    environment = service.environment()
    login = base64.b64encode(f"{user}:{environment['MLFLOW_TRACKING_PASSWORD']}".encode()).decode()
    host = f"Host: {urlsplit(service.url).netloc}\r\n"
    return host + (f"Authorization: Basic {login}\r\n" if user else "")


def declare_body(service, path, size, method="POST", user="admin"):
    """The status for a request that announces a body and has sent none of it."""
    return send(service, f"{method} {path} HTTP/1.1\r\n{head(service, user)}Content-Length: {size}\r\n\r\n")


def send_chunks(service, method, path, size):
    """The status for a body of unknown length, sent without a login until there is an answer."""
    chunk = f"{_CHUNK:x}\r\n".encode() + bytes(_CHUNK) + b"\r\n"
    with connection(service) as opened:
        opened.sendall(f"{method} {path} HTTP/1.1\r\n{head(service, None)}Transfer-Encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for _ in range(size // _CHUNK):
                if select.select([opened], [], [], 0)[0]:
                    break
                opened.sendall(chunk)
            else:
                opened.sendall(b"0\r\n\r\n")
        return status_of(opened)


@pytest.mark.parametrize(
    "login",
    [
        {"user": None},
        {"user": "admin", "password": "wrong"},
        {"user": "admin", "password": ""},
        {"user": "nobody", "password": "Correct-Horse-9"},
        {"user": "admin' OR '1'='1", "password": "x"},
    ],
)
def test_a_wrong_or_missing_login_is_refused_and_counted(service, login):
    before = counted(service, '" 401 ')

    assert search(service, **login).status_code == 401
    wait_until_counted(service, '" 401 ', before)


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Bearer x", "Basic " + "QQ==" * 500, "Digest username=admin"])
def test_a_malformed_login_is_refused(service, header):
    answer = search(service, user=None, headers={"Authorization": header})

    assert answer.status_code == 401


class _From(HTTPAdapter):
    """Sends from another address of this machine."""

    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, source_address=("127.0.0.2", 0), **options)


def send_wrong_logins(service, name):
    """Send wrong passwords of the admin, two a second; the statuses of the answers."""
    statuses = set()
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", _From())
        for number in range(_ATTEMPTS):
            login = ("admin", f"wrong {name} {number}")
            statuses.add(session.post(f"{service.url}{_SEARCH}", auth=login, verify=str(service.ca_file)).status_code)
            time.sleep(0.5)
    return statuses


def test_wrong_logins_do_not_keep_metrics_of_others_away(service):
    run = service.request("POST", "/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]
    sent = []
    with ThreadPoolExecutor(_ATTACKERS) as pool:
        attacks = [pool.submit(send_wrong_logins, service, name) for name in range(_ATTACKERS)]
        while not all(attack.done() for attack in attacks):
            sent.append(len(sent))
            metric = {"key": "f1", "value": 1, "timestamp": 1, "step": sent[-1]}
            batch = {"run_id": run["run_id"], "metrics": [metric]}
            assert service.request("POST", "/api/2.0/mlflow/runs/log-batch", json=batch).status_code == 200
    history = {"run_id": run["run_id"], "metric_key": "f1"}
    points = service.request("GET", "/api/2.0/mlflow/metrics/get-history", params=history).json()["metrics"]

    assert sorted(point["step"] for point in points) == sent
    assert set.union(*(attack.result() for attack in attacks)) == {401, 429}


def test_a_deleted_user_is_refused(service):
    password = "Correct-Horse-9"
    login = {"json": {"username": "leaver", "password": password}}
    assert service.request("POST", "/api/2.0/mlflow/users/create", **login).status_code == 200
    assert search(service, user="leaver", password=password).status_code == 200

    service.request("DELETE", "/api/2.0/mlflow/users/delete", json={"username": "leaver"})

    assert search(service, user="leaver", password=password).status_code == 401


@pytest.mark.parametrize("user", ["admin", None])
@pytest.mark.parametrize("path", [_SEARCH, "/api/2.0/mlflow/runs/log-batch", "/graphql", "/signup"])
def test_a_body_of_200_megabytes_is_refused_at_the_api(service, path, user):
    before = counted(service, '" 413 ')

    assert declare_body(service, path, 200 * 2**20, user=user) == 413
    wait_until_counted(service, '" 413 ', before)


def test_a_large_batch_of_metrics_is_taken(service):
    run = service.request("POST", "/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]
    metrics = [{"key": f"test/f1 of label {number}", "value": 0.5, "timestamp": 1, "step": 1} for number in range(1000)]

    answer = service.request(
        "POST", "/api/2.0/mlflow/runs/log-batch", json={"run_id": run["run_id"], "metrics": metrics}
    )

    assert answer.status_code == 200


def test_an_endless_body_without_a_length_is_refused(service):
    before = counted(service, '" 413 ')

    assert send_chunks(service, "POST", _SEARCH, 200 * 2**20) in (413, None)  # it may be cut off before it reads
    wait_until_counted(service, '" 413 ', before)


@pytest.mark.parametrize("method", ["DELETE", "POST"])
@pytest.mark.parametrize("body", ["Content-Length: 209715200", "Transfer-Encoding: chunked"])
def test_only_an_upload_has_a_large_body_at_the_artifacts(service, method, body):
    line = f"{method} {_ARTIFACTS}/0/x/artifacts/large.bin HTTP/1.1\r\n"

    assert send(service, f"{line}{head(service, None)}{body}\r\n\r\n") == 413


def test_200_megabytes_without_a_login_do_not_reach_the_artifacts(service):
    assert send_chunks(service, "PUT", f"{_ARTIFACTS}/0/x/artifacts/large.bin", 200 * 2**20) == 401


def test_an_artifact_above_the_limit_is_refused(service):
    assert declare_body(service, f"{_ARTIFACTS}/0/x/artifacts/large.bin", 2**50, method="PUT") == 413


_LEAVING = (
    "../../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%252e%252e%252f%252e%252e%252fetc",
    "..%252f..%252fetc",
    "%25252e%25252e%25252fetc",
    "..%5c..%5cetc%5cpasswd",
    "..%255c..%255cetc",
    "%c0%ae%c0%ae/%c0%ae%c0%ae/etc",
    "..%00/etc/passwd",
    "x/../../../etc/passwd",
)


@pytest.mark.parametrize("path", _LEAVING)
def test_a_path_that_leaves_the_artifacts_is_refused(service, path):
    for method in ("GET", "PUT", "DELETE"):
        line = f"{method} {_ARTIFACTS}/0/{path} HTTP/1.1\r\n"
        assert send(service, f"{line}{head(service)}Content-Length: 0\r\n\r\n") in (400, 403, 404)


@pytest.mark.parametrize("path", ["../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "file:///etc/passwd"])
@pytest.mark.parametrize("page", ["/get-artifact", "/ajax-api/2.0/mlflow/artifacts/list"])
def test_a_page_does_not_read_outside_the_artifacts(service, page, path):
    run = service.request("POST", "/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]

    answer = service.request("GET", page, params={"run_id": run["run_id"], "run_uuid": run["run_id"], "path": path})

    assert answer.status_code in (400, 403, 404)
    assert "root:" not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "169.254.169.254", "", "a" * 200, "[::1"])
def test_another_host_name_is_refused(service, host):
    status = send(service, f"GET /api/2.0/mlflow/experiments/get?experiment_id=0 HTTP/1.1\r\nHost: {host}\r\n\r\n")

    assert status in (400, 401, 403, 421)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://localhost.evil.example"])
def test_a_page_of_another_site_cannot_write(service, origin):
    answer = service.request(
        "POST", "/api/2.0/mlflow/experiments/create", json={"name": f"of {origin}"}, headers={"Origin": origin}
    )

    assert answer.status_code == 403


def test_the_own_page_can_write(service):
    address = urlsplit(service.url)

    answer = search(service, headers={"Origin": f"https://{address.netloc}"})

    assert answer.status_code == 200


_BOMBS = {
    "long header": "X-A: " + "a" * 200_000 + "\r\n",
    "many headers": "".join(f"X-{number}: {'a' * 100}\r\n" for number in range(3000)),
    "two lengths": "Content-Length: 3\r\nContent-Length: 4\r\n",
    "length and chunks": "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "unknown coding": "Transfer-Encoding: xchunked\r\n",
    "negative length": "Content-Length: -1\r\n",
    "split": "X-A: b\r\n Host: evil.example\r\n",
    "no colon": "nonsense\r\n",
}


@pytest.mark.parametrize("name", _BOMBS)
def test_a_malformed_request_is_refused(service, name):
    status = send(service, f"POST {_SEARCH} HTTP/1.1\r\nHost: {urlsplit(service.url).netloc}\r\n{_BOMBS[name]}\r\n")

    assert status in (400, 401, 413, 431, 501)


@pytest.mark.parametrize(
    "line", ["GET", "GET / HTTP/9.9", "\x16\x03\x01", f"GET {'/a' * 10_000} HTTP/1.1", "TRACE / HTTP/1.1"]
)
def test_a_malformed_request_line_is_refused(service, line):
    status = send(service, f"{line}\r\nHost: {urlsplit(service.url).netloc}\r\n\r\n")

    assert status in (400, 405, 414, 505)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\xff\xff" + b"\0" * 200, b"\x80\x2e\x01\x00\x02", b"\0" * 5000])
def test_malformed_tls_ends_the_connection(service, garbage):
    with connection(service, tls=False) as opened:
        opened.sendall(garbage)
        opened.shutdown(socket.SHUT_WR)
        opened.settimeout(30)
        with contextlib.suppress(ConnectionError):
            received = opened.recv(10_000)
            assert not received.startswith(b"HTTP/1.1 2")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_tls_is_refused(service):
    address = urlsplit(service.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.minimum_version = ssl.TLSVersion.TLSv1
    edge = (address.hostname, address.port)
    with socket.create_connection(edge) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw)


def test_plain_http_is_sent_to_https(service):
    status = send(service, f"GET / HTTP/1.1\r\nHost: {urlsplit(service.url).netloc}\r\n\r\n", tls=False)

    assert status in (301, 308)


def test_idle_connections_leave_room_for_others(service):
    with contextlib.ExitStack() as held:
        for _ in range(_IDLE):
            held.enter_context(connection(service, tls=False))
        assert search(service).status_code == 200


def test_slow_clients_are_cut_off(service):
    """Headers that never end, and a body of which one byte comes each second."""
    with contextlib.ExitStack() as held:
        slow = [held.enter_context(connection(service)) for _ in range(20)]
        for one in slow:
            one.sendall(f"GET / HTTP/1.1\r\nHost: {urlsplit(service.url).netloc}\r\nX-Slow: ".encode())
        assert search(service).status_code == 200
        ends = [one.makefile("rb").read() for one in slow]  # until the edge closes it; a socket waits 60 seconds

    assert not any(end.startswith(b"HTTP/1.1 2") for end in ends)
