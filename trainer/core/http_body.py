"""Reads the body of an HTTP request up to a limit."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["read_body"]


async def read_body(request: "Request", most: int) -> bytes:
    """Return the body. Raises HTTPException, with status 413, as soon as it has more than `most` bytes."""
    from starlette.exceptions import HTTPException

    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"The body must have at most {most} bytes.", {"Connection": "close"})
    return bytes(body)
