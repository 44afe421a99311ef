"""Small jobs for the tests of batch scoring: a model that records its calls, files, and one command."""

import json
import zlib
from contextlib import contextmanager

import numpy as np

from registry import predict
from registry.scoring import scorer

NAMES = ("joy", "grief")


class FakeModel:
    """Predicts from the text alone; `calls` has the texts of every call. A call after `most_calls` is a Ctrl-C."""

    default_policy = "fixed"

    def __init__(self, names=NAMES, most_calls=1000):
        self.names, self.most_calls, self.calls = names, most_calls, []

    @property
    def label_names(self):
        return tuple(self.names)

    @property
    def thresholds(self):
        return {"fixed": np.full(len(self.names), 0.5)}

    def probabilities(self, texts):
        if len(self.calls) == self.most_calls:
            raise KeyboardInterrupt
        self.calls += [texts] if texts else []
        return probabilities(texts, len(self.names))

    def labels(self, probabilities, thresholds, *, top_k=0):
        above = probabilities >= thresholds
        return [[name for name, chosen in zip(self.names, row, strict=True) if chosen] for row in above]

    @property
    def scored(self):
        """Every text that was scored."""
        return [text for texts in self.calls for text in texts]


def probabilities(texts, num_labels=2):
    """(n, k) of these texts, as FakeModel gives them."""
    codes = [[zlib.crc32(f"{label} {text}".encode()) / 2**32 for label in range(num_labels)] for text in texts]
    return np.array(codes).reshape(len(texts), num_labels)


class Job:
    """A folder, a fake model, and the command on them."""

    def __init__(self, folder, monkeypatch, capsys):
        self.folder, self.model, self.source, self._capsys = folder, FakeModel(), "models:/emotions/1", capsys
        monkeypatch.setattr(scorer, "open_scorer", self._open)

    @contextmanager
    def _open(self, _address, choice):
        yield scorer.Scorer(self.model, choice, source=self.source, digest="digest")

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, source, target="out.jsonl", **settings):
        """Exit status of the command, and what it printed as one line."""
        flags = [f"--{name}={value}" for name, value in settings.items()]
        status = predict.main([f"--input={self.folder / source}", f"--output={self.folder / target}", *flags])
        printed = self._capsys.readouterr()
        return status, " ".join((printed.out + printed.err).split())

    def rows(self, name="out.jsonl"):
        return read_json_lines(self.folder / name)

    def rejects(self, name="out.jsonl"):
        path = self.folder / f"{name}.rejects.jsonl"
        return read_json_lines(path) if path.exists() else []

    def files(self):
        return sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("mlflow"))


def read_json_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
