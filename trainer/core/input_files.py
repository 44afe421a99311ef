"""Reads the small files that a user or an earlier run names, such as presets, with limits on kind, size and depth.

Every function raises ValueError with a short reason, such as "not a regular file", for a file that it does not read.
"""

import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from trainer.core.errors import shorten

__all__ = ["is_file", "is_folder", "read_bytes", "read_json", "read_text", "read_yaml", "show_path"]

_MAX_BYTES = 16 * 2**20
_MAX_YAML_BYTES = 64 * 2**10  # PyYAML reads about 100 KB a second
_MAX_YAML_VALUES = 10_000  # with aliases and merges resolved: a few hundred bytes can name billions
_MAX_DEPTH = 32
_MAX_DIGITS = 300  # a float has an exponent of at most 308
_MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key `<<`, which YAML allows several times in one mapping."""


def is_file(path: Path) -> bool:
    """Return whether there is a regular file; False also for a path that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113  # Path.is_file raises for names that are too long


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False also for a path that no folder can have."""
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises for names that are too long


def show_path(path: Path | str) -> str:
    """Return a path for a message: a relative one with the folder that it is taken from."""
    shown = shorten(path)
    return shown if Path(path).is_absolute() else f"{shown} (in {shorten(Path.cwd())})"


def read_bytes(path: Path, limit: int = _MAX_BYTES) -> bytes:
    """Return the content of a regular file of at most `limit` bytes."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before it is opened: a named pipe would wait for a writer
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ValueError(error.strerror or "unreadable") from error
    if len(content) > limit:
        raise ValueError(f"larger than {limit // 2**10:,} KiB")
    return content


def read_text(path: Path, limit: int = _MAX_BYTES) -> str:
    """Return the text of a UTF-8 file, without a byte order mark."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from None


def read_json(path: Path, limit: int = _MAX_BYTES) -> Any:
    """Return the content of a JSON file without repeated names and absurd numbers."""
    text = read_text(path, limit)
    try:
        return json.loads(text, object_pairs_hook=_unique_pairs, parse_int=_read_integer)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON in line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file without repeated names and absurd sizes."""
    text = read_text(path, _MAX_YAML_BYTES)
    try:
        _check_depth(text)
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        if _measure(root, {}, 0) > _MAX_YAML_VALUES:
            raise ValueError(f"more than {_MAX_YAML_VALUES:,} values, aliases resolved")
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"not YAML{line}: {shorten(error.problem)}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {shorten(error)}") from None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):  # stops early: PyYAML needs seconds for thousands of brackets
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")


def _measure(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Return the number of values in a node, with aliases resolved. sizes: those known, by the id of their node.

    Raises ValueError for repeated names, of which PyYAML would take the last, and for absurd numbers.
    """
    if depth > _MAX_DEPTH:  # also an anchor that contains itself
        raise ValueError("nested too deeply")
    if id(node) not in sizes:
        children: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.MappingNode):
            scalars = [name for name, _ in node.value if isinstance(name, yaml.ScalarNode) and name.tag != _MERGE]
            _check_unique([name.value for name in scalars])
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        elif node.tag == "tag:yaml.org,2002:int":
            _check_digits(node.value, f" in line {node.start_mark.line + 1}")
        sizes[id(node)] = 1 + sum(_measure(child, sizes, depth + 1) for child in children)
    return sizes[id(node)]


def _unique_pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    _check_unique([name for name, _ in pairs])
    return dict(pairs)


def _check_unique(names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"`{shorten(repeated[0])}` is given twice")


def _read_integer(text: str) -> int:
    _check_digits(text)
    return int(text)


def _check_digits(text: str, where: str = "") -> None:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number{where} has more than {_MAX_DIGITS} digits")
