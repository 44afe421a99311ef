"""A proxy before a tracking server that answers as a broken network, a broken server or a foreign one would."""

import http.client
import random
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["MODES", "Outage", "Proxy"]

MODES = ("refuses", "hangs", "answers 5xx", "loses replies", "is no MLflow", "cuts replies")
_LOGIN_PAGE = b"<html><body>Please accept the terms of this network.</body></html>"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


@dataclass(frozen=True)
class Outage:
    """What the proxy does to a share of the requests, from the request `first` on, for `count` requests."""

    mode: str
    first: int
    count: int
    share: float = 1.0


class Proxy:
    """Forwards requests to a server, disturbed by an outage; as a context, it listens on a free port."""

    def __init__(self, server: str, outage: Outage | None, rng: random.Random) -> None:
        self.server = urlsplit(server)
        self.outage, self.requests, self.disturbed = outage, 0, 0
        self._rng, self._lock = rng, threading.Lock()
        self.is_over = threading.Event()  # ends requests that hang
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.proxy = self
        self.uri = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end_outage()
        self._http.shutdown()
        self._http.server_close()

    def end_outage(self) -> None:
        """Forward everything from now on."""
        with self._lock:
            self.outage = None
        self.is_over.set()

    def next_mode(self) -> str:
        """Return what happens to the next request; empty for nothing."""
        with self._lock:
            self.requests += 1
            outage = self.outage
            if outage is None or not outage.first <= self.requests < outage.first + outage.count:
                return ""
            if self._rng.random() >= outage.share:
                return ""
            self.disturbed += 1
            return outage.mode


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _serve(self) -> None:
        proxy = self.server.proxy
        body, mode = self._read_body(), proxy.next_mode()
        if mode == "refuses":
            self._drop()
        elif mode == "hangs":
            proxy.is_over.wait(20)  # longer than a first contact may take, and bounded: a hang has its end
            self._drop()
        elif mode == "answers 5xx":
            self._reply(503, "text/plain", b"upstream connect error")
        elif mode == "is no MLflow":
            self._reply(200, "text/html", _LOGIN_PAGE)
        else:
            self._forward(body, mode)

    # Names that http.server prescribes.
    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _forward(self, body: bytes, mode: str) -> None:
        server = self.server.proxy.server
        connection = http.client.HTTPConnection(server.hostname, server.port, timeout=300)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if mode == "loses replies":
            self._drop()
            return
        self._reply(answer.status, answer.getheader("Content-Type", ""), content, cut=mode == "cuts replies")

    def _reply(self, status: int, kind: str, content: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: object) -> None:
        """Print nothing."""
