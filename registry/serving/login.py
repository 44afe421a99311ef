"""Lets the accounts of the tracking server in, by asking it, and remembers its answers for a while."""

import hmac
import os
import secrets
import threading
import time
from typing import Literal

import requests

__all__ = ["Login"]

Answer = Literal["accepted", "refused", "unknown"]
_FRESH_SECONDS = 60.0
_KEPT_SECONDS = 3600.0
"""While the tracking server is away, an account that it accepted so long ago is still let in."""
_PATH = "/api/2.0/mlflow/users/current"
_SECONDS = 10


class Login:
    """Accounts of the tracking server at `uri`."""

    def __init__(self, uri: str) -> None:
        self._url = uri.rstrip("/") + _PATH
        self._key = secrets.token_bytes(32)  # of this process: what is remembered is no password
        self._accepted: dict[bytes, float] = {}  # digest of a header → when it was accepted
        self._lock = threading.Lock()

    def check(self, authorization: str) -> Answer:
        """Return whether the server accepts the value of a header Authorization; unknown: it does not answer."""
        if not authorization:
            return "refused"
        digest = hmac.digest(self._key, authorization.encode("utf-8", "replace"), "sha256")
        age = time.monotonic() - self._accepted.get(digest, -_KEPT_SECONDS)
        if age < _FRESH_SECONDS:
            return "accepted"
        answer = self._ask(authorization)
        if answer == "unknown":
            return "accepted" if age < _KEPT_SECONDS else "unknown"
        self._remember(digest, answer)
        return answer

    def _remember(self, digest: bytes, answer: Answer) -> None:
        now = time.monotonic()
        with self._lock:
            kept = {known: at for known, at in self._accepted.items() if now - at < _KEPT_SECONDS and known != digest}
            self._accepted = kept | ({digest: now} if answer == "accepted" else {})

    def _ask(self, authorization: str) -> Answer:
        verify = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
        try:
            status = requests.get(self._url, auth=_Given(authorization), verify=verify, timeout=_SECONDS).status_code
        except (requests.RequestException, ValueError):  # a header that HTTP cannot send is a ValueError
            return "unknown"
        return "accepted" if status == 200 else "refused" if status in (401, 403) else "unknown"


class _Given(requests.auth.AuthBase):
    """Sends the header of the client; without it, requests takes a login from ~/.netrc."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request
