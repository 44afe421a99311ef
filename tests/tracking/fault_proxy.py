"""An HTTP proxy before a real tracking server that loses requests and answers, as networks do."""

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORTAL = b"<html><body>Please sign in to this network.</body></html>"


class FaultProxy:
    """Forwards requests, except as `fault` says for method and path.

    "portal": the request is lost and the answer is 200 with a page. "lost": the request arrives and the answer is 502.
    "away": the request is lost and the answer is 503.
    """

    def __init__(self, port):
        self.fault = lambda method, path: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, port))
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def once_each(self, kind, *, method="POST", path=""):
        """The first request of each path fails in this way."""
        seen = set()

        def fault(asked_method, asked_path):
            asked_path = asked_path.partition("?")[0]
            if asked_method != method or path not in asked_path or asked_path in seen:
                return None
            seen.add(asked_path)
            return kind

        self.fault = fault
        return seen


def _handler(proxy, port):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault(self.command, self.path)
            if fault == "portal":
                self._answer(200, PORTAL, "text/html")
                return
            if fault == "away":
                self._answer(503, b"away", "text/plain")
                return
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as server:
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                server.request(self.command, self.path, body, headers)
                answer = server.getresponse()
                content = answer.read()
            if fault == "lost":
                self._answer(502, b"lost", "text/plain")
            else:
                self._answer(answer.status, content, answer.headers.get("Content-Type", ""))

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815 - the base class calls these names

        def _answer(self, status, content, kind):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    return Handler
