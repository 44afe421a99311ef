"""The first contact with a tracking server through TLS: certificates, logins, addresses, each with one clear line."""

import base64
import contextlib
import datetime
import json
import os
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from tracking_helpers import free_port

from trainer.core.errors import TrackingError
from trainer.tracking.connection import connect

USER, PASSWORD = "ann", "pa/ss'\"@%: wörd"
TOKEN = "to/k+en=="
_VARIABLES = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy"),
)


class _Handler(BaseHTTPRequestHandler):
    """The answers of MLflow below the path /mlflow, with a login."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if not self.path.startswith("/mlflow/api/"):
            self._answer(404, "<html>no such page</html>")
        elif self.headers["Authorization"] in (f"Basic {known}", f"Bearer {TOKEN}"):
            self._answer(200, json.dumps({"experiments": []}))
        else:
            self._answer(401, "You are not authenticated.")

    do_GET = do_POST  # noqa: N815  # names of http.server

    def _answer(self, status, text):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Nothing is printed."""


@contextlib.contextmanager
def serving(certificate):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.handle_error = lambda *_: None  # of a client that refuses the certificate
    port = server.server_address[1]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        # The handshake happens in the thread of the request.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    file = tmp_path_factory.mktemp("tls") / "ca.crt"
    authority.cert_pem.write_to_path(file)
    return str(file)


@pytest.fixture(scope="module")
def port(authority):
    """Port of a server with a right certificate."""
    with serving(authority.issue_cert("localhost")) as port:
        yield port


@pytest.fixture(autouse=True)
def environment(port, ca_file, monkeypatch, tmp_path):
    """The environment of a client that is configured right, for the tests to change."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://localhost:{port}/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", ca_file)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    return monkeypatch


def refusal():
    with pytest.raises(TrackingError) as caught:
        connect()
    message = str(caught.value)
    assert len(message) <= 300
    assert "\n" not in message
    assert message.startswith("Cannot connect to tracking server http")
    return message


def test_user_and_password_of_any_characters():
    connect()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_variables_of_requests_name_an_authority_too(environment, ca_file, variable):
    environment.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    environment.setenv(variable, ca_file)
    connect()


def test_a_token(environment):
    environment.delenv("MLFLOW_TRACKING_PASSWORD")
    environment.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    connect()


def test_an_entry_of_netrc(environment, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login bob password wrong")
    netrc.chmod(0o600)
    assert ".netrc" in refusal()


def test_the_password_of_an_address_moves_into_the_environment(environment, port):
    environment.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    environment.setenv("MLFLOW_TRACKING_PASSWORD", "other")
    quoted = "pa%2Fss'%22%40%25%3A%20w%C3%B6rd"
    environment.setenv("MLFLOW_TRACKING_URI", f"https://{USER}:{quoted}@localhost:{port}/mlflow")
    assert connect().uri == os.environ["MLFLOW_TRACKING_URI"] == f"https://localhost:{port}/mlflow"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == PASSWORD


@pytest.mark.parametrize("userinfo", ["ann:pa/ss", "ann:pa#ss", "ann:pa?ss", "ann:pa/ss word", "ann:sp pa/ss"])
def test_a_password_that_is_not_percent_encoded(environment, port, userinfo):
    environment.setenv("MLFLOW_TRACKING_URI", f"https://{userinfo}@localhost:{port}/mlflow")
    message = refusal()
    assert "MLFLOW_TRACKING_PASSWORD" in message
    assert not re.search("pa|ss|word", message.replace("PASSWORD", ""))


@pytest.mark.parametrize(
    ("set_variables", "advice"),
    [
        ({"MLFLOW_TRACKING_PASSWORD": "wro/ng"}, "Correct MLFLOW_TRACKING_USERNAME"),
        ({"MLFLOW_TRACKING_PASSWORD": ""}, "Set MLFLOW_TRACKING_USERNAME"),
        ({"MLFLOW_TRACKING_PASSWORD": "", "MLFLOW_TRACKING_TOKEN": "wro/ng"}, "Correct MLFLOW_TRACKING_TOKEN"),
        ({"MLFLOW_TRACKING_PASSWORD": "", "MLFLOW_TRACKING_TOKEN": "wro/ng\n"}, "MLFLOW_TRACKING_TOKEN must"),
        ({"MLFLOW_TRACKING_PASSWORD": "", "MLFLOW_TRACKING_TOKEN": "wro/ngΩ"}, "MLFLOW_TRACKING_TOKEN must"),
    ],
)
def test_wrong_logins(environment, set_variables, advice):
    for name, value in set_variables.items():
        environment.setenv(name, value)
    message = refusal()
    assert advice in message
    assert "wro/ng" not in message


@pytest.mark.parametrize("file", [None, ""])
def test_an_unknown_authority(environment, file):
    environment.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    if file is not None:
        environment.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", file)
    assert "Set MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "no certificate", "another authority"])
def test_a_wrong_file_of_authorities(environment, tmp_path, variable, content):
    environment.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
    file = tmp_path / "wrong.crt"
    if content == "another authority":
        trustme.CA().cert_pem.write_to_path(file)
    elif content is not None:
        file.write_text(content)
    environment.setenv(variable, str(file))
    message = refusal()
    assert f"{variable} names" in message
    assert "wrong.crt" in message


def test_a_certificate_of_yesterday(environment, authority):
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = authority.issue_cert("localhost", not_before=yesterday.replace(year=2020), not_after=yesterday)
    with serving(certificate) as port:
        environment.setenv("MLFLOW_TRACKING_URI", f"https://localhost:{port}/mlflow")
        assert "expired" in refusal()


def test_a_certificate_of_another_host(environment, authority):
    with serving(authority.issue_cert("mlflow.example.org")) as port:
        environment.setenv("MLFLOW_TRACKING_URI", f"https://localhost:{port}/mlflow")
        assert "another host name" in refusal()


def test_https_where_no_tls_is_spoken(environment):
    with serving(None) as port:
        environment.setenv("MLFLOW_TRACKING_URI", f"https://localhost:{port}/mlflow")
        assert "http://" in refusal()


def test_http_where_tls_is_spoken(environment, port):
    environment.setenv("MLFLOW_TRACKING_URI", f"http://localhost:{port}/mlflow")
    assert "https://" in refusal()


@pytest.mark.parametrize("path", ["", "/other", "/mlfloww"])
def test_a_missing_or_wrong_prefix(environment, port, path):
    environment.setenv("MLFLOW_TRACKING_URI", f"https://localhost:{port}{path}")
    assert "no MLflow server" in refusal()


@pytest.mark.parametrize(
    ("uri", "advice"),
    [("https://localhost:{}/mlflow", "refused"), ("https://nowhere.invalid:{}/mlflow", "host name is unknown")],
)
def test_a_wrong_port_or_host(environment, uri, advice):
    environment.setenv("MLFLOW_TRACKING_URI", uri.format(free_port()))
    assert advice in refusal()


@pytest.mark.parametrize("proxy", ["http://ann:pr/oxy@127.0.0.1:9", "http://ann:proxy@127.0.0.1:9", "nothing"])
def test_a_proxy_that_is_away_or_misspelt(environment, proxy):
    environment.setenv("HTTPS_PROXY", proxy)
    environment.setenv("NO_PROXY", "")
    message = refusal()
    assert "HTTPS_PROXY" in message
    assert "oxy@" not in message


def test_a_host_that_no_proxy_lists(environment):
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    environment.setenv("NO_PROXY", "localhost")
    connect()
