import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

Rows = list[tuple[str, list[str]]]

LABELS = ["anger", "joy", "sadness"]
ROWS: dict[str, Rows] = {
    "train": [
        ("what a lovely day", ["joy"]),
        ('he said "no", again', ["anger", "sadness"]),
        ("nothing special", []),
        ("she left\nand never wrote", ["sadness"]),
        ("tab\tand, comma", ["anger"]),
    ],
    "dev": [("so glad", ["joy"]), ("go away", ["anger"])],
    "test": [("i miss her", ["sadness"]), ("best | worst", ["joy", "anger"])],
}


@pytest.fixture
def small_rows() -> dict[str, Rows]:
    return ROWS


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write files by name (str or bytes) into a folder and return it."""

    def _write(**files: str | bytes) -> Path:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            raw = content.encode() if isinstance(content, str) else content
            (folder / name.replace("__", ".")).write_bytes(raw)
        return folder

    return _write


@pytest.fixture
def to_csv() -> Callable[..., str]:
    def _to_csv(rows: list[list[str]], delimiter: str = ",") -> str:
        file = io.StringIO()
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
        return file.getvalue()

    return _to_csv
