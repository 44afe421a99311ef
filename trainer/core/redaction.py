"""Hides passwords and tokens in addresses, messages, command lines and logs."""

import logging
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

__all__ = ["redact", "redact_command", "redact_logs"]

_MASK = "***"
# Not tokenizer and tokens, which are no secrets, as in `eval_batch_tokens`; `sig=` signs Azure URLs.
_NAMED = r"(?:token(?!i|s)|secret|passw|pwd|credential|signature|\bsig(?==)|(?:api|access)[_-]?key)"
_FLAG = re.compile(rf"--?[\w.-]*{_NAMED}[\w.-]*", re.IGNORECASE)
_ASSIGNMENT = re.compile(rf"(?<![\w.-])([\w.-]*{_NAMED}[\w.-]*=)[^&\s]+", re.IGNORECASE)
# SQLAlchemy reads a password as far as the first `@` and urllib as far as the first `/`. Users write both characters
# unescaped, and then the rest of the password is part of the host or path. Up to the last `@` nothing of it is left.
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s:@]*(?::\S*)?@")
# A path library makes `https:/user:password@host` of an address. `models:/emotions@champion` has no password.
_IN_A_PATH = re.compile(r"(?<=\w:/)[^/\s:@]+:\S*@|(?:(?<=http:/)|(?<=https:/))[^/\s:@]+@")
# Any option of a query may be a secret. `url: /path?query` is how urllib3 spells an address that it cannot reach.
_QUERY = re.compile(r"(\b[a-z][\w+.-]*:/[^\s?]*|url: [^\s?]*)\?\S+", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic) [\w.~+/=-]{8,}|\bhf_[A-Za-z0-9]{20,}", re.IGNORECASE)
_RULES = (
    (_ASSIGNMENT, rf"\1{_MASK}"),
    (_USER_AND_PASSWORD, ""),
    (_IN_A_PATH, ""),
    (_QUERY, rf"\1?{_MASK}"),
    (_BEARER, _MASK),
)


def redact(text: str) -> str:
    """Return a text without `user:password@` in addresses, with `***` for their queries and values named as secrets.

    An address ends at white space. Where it may contain a password, too much is removed rather than too little.
    """
    for pattern, shown in _RULES:
        text = pattern.sub(shown, text)
    return text


def redact_command(argv: Sequence[str]) -> str:
    """Return the shell command of `argv`, with `***` for the values of flags that are named as secrets."""
    shown = []
    hide_next = False
    for argument in argv:
        flag, equals, _ = argument.partition("=")
        is_secret = _FLAG.fullmatch(flag) is not None
        if hide_next:
            shown.append(_MASK)
        else:
            shown.append(f"{flag}={_MASK}" if is_secret and equals else redact(argument))
        hide_next = is_secret and not equals and not hide_next  # a hidden value may look like such a flag
    return shlex.join(shown)


def redact_logs() -> None:
    """Hide secrets in all later log records of this process, those of libraries included."""
    logging.setLogRecordFactory(_redacted_record)


def _redacted_record(*arguments: Any, **options: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **options)
    with suppress(TypeError, ValueError):  # wrong arguments for the text: `emit` reports them
        text = record.getMessage()
        if (shown := redact(text)) != text:
            record.msg, record.args = shown, None
    return record
