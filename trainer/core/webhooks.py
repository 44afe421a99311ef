"""Verifies signature and time of a webhook, as MLflow sends them."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

__all__ = ["MAX_AGE_SECONDS", "is_genuine", "sign"]

MAX_AGE_SECONDS = 300
"""A webhook that is older, or as far in the future, is refused: somebody may have recorded and repeated it."""

_ID, _TIME, _SIGNATURE = "X-MLflow-Delivery-Id", "X-MLflow-Timestamp", "X-MLflow-Signature"


def is_genuine(headers: Mapping[str, str], body: bytes, *, secret: str, now: float) -> bool:
    """Return True when the headers have a signature of the body by `secret` and a time close to `now`.

    headers: read without regard to case, as those of a request are. now: seconds since 1970.
    """
    time, signature = headers.get(_TIME, ""), headers.get(_SIGNATURE, "")
    if not (time.isascii() and time.isdigit()) or abs(now - int(time[:12])) > MAX_AGE_SECONDS:
        return False
    expected = sign(secret, headers.get(_ID, ""), time, body)
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def sign(secret: str, delivery_id: str, time: str, body: bytes) -> str:
    """Return the signature that MLflow sends: `v1,` and the base64 of HMAC-SHA256."""
    digest = hmac.digest(secret.encode(), f"{delivery_id}.{time}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"
