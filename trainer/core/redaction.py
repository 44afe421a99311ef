"""Hides passwords and tokens in addresses, messages and command lines."""

import re
import shlex
from collections.abc import Sequence

__all__ = ["redact", "redact_command"]

_MASK = "***"
# Not tokenizer and tokens, which are no secrets, as in `eval_batch_tokens`; `sig=` signs Azure URLs.
_NAMED = r"(?:token(?!i|s)|secret|passw|pwd|credential|signature|\bsig(?==)|(?:api|access)[_-]?key)"
_FLAG = re.compile(rf"--?[\w.-]*{_NAMED}[\w.-]*", re.IGNORECASE)
_ASSIGNMENT = re.compile(rf"(?<![\w.-])([\w.-]*{_NAMED}[\w.-]*=)[^&\s]+", re.IGNORECASE)
# SQLAlchemy reads a password as far as the first `@` and urllib as far as the first `/`. Users write both characters
# unescaped, and then the rest of the password is part of the host or path. Up to the last `@` nothing of it is left.
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s:@]*(?::\S*)?@")


def redact(text: str) -> str:
    """Return a text, or an address, without `user:password@` in addresses and with `***` for values named as secrets.

    An address ends at white space. Where it may contain a password, too much is removed rather than too little.
    """
    return _USER_AND_PASSWORD.sub("", _ASSIGNMENT.sub(rf"\1{_MASK}", text))


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
