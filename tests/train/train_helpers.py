"""Small runs of the whole `train` command: a data set, an encoder, and a recorder in place of MLflow."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
import transformers
from accelerate.state import AcceleratorState, GradientState, PartialState
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn.modules.module import register_module_forward_pre_hook

from trainer import pipeline
from trainer.core import artifacts
from trainer.core.settings import as_argv
from trainer.fit.checkpoint import CheckpointStore
from trainer.launch import launcher
from trainer.model import saving
from trainer.model.classifier import EmotionClassifier
from trainer.runs import results
from trainer.tracking.run import NullTracker
from trainer.train import main

LABELS = ("anger", "calm", "grief", "joy")
ROWS = {"train": 80, "dev": 40, "test": 40}
LEAKED = 3
POSITIONS = 48
_SHARES = (0.4, 0.3, 0.15, 0.5)
_WORDS = tuple(f"w{number}" for number in range(40))
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

Rows = list[dict[str, str]]


def make_data(folder: Path) -> Path:
    """Write CSV files of 83, 40 and 40 rows with 4 labels; 3 dev texts are in train as well."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    rows = {role: _rows(rng, count) for role, count in ROWS.items()}
    rows["train"] += rows["dev"][:LEAKED]
    for role, split in rows.items():
        write_split(folder / f"{role}.csv", split)
    return folder


def _rows(rng: np.random.Generator, count: int) -> Rows:
    """Each label has a word of its own that nearly all of its texts hold."""
    rows = []
    for _ in range(count):
        present = [label for label, share in enumerate(_SHARES) if rng.random() < share]
        telling = [_WORDS[label] for label in present if rng.random() < 0.9]
        words = [*telling, *rng.choice(_WORDS[len(LABELS) :], rng.integers(4, 12))]
        names = "|".join(LABELS[label] for label in present)
        text = " ".join(rng.permutation(words))
        rows.append({"text": text, "labels": names, "remark": "w1 w2", "mood": names or "joy"})
    return rows


def write_split(path: Path, rows: Rows) -> None:
    """Write rows as CSV with a header and ids."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", *rows[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"id": f"{path.stem}{number}"} | row for number, row in enumerate(rows))


def read_split(path: Path) -> Rows:
    """Rows as written, without their ids."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "id"} for row in csv.DictReader(file)]


def save_model(folder: Path) -> Path:
    """Write a BERT of two layers with random weights and its tokenizer."""
    words = {piece: number for number, piece in enumerate([*_SPECIAL, *_WORDS])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), _SPECIAL, strict=True))
    tokenizer = transformers.TokenizersBackend(
        tokenizer_object=backend, **{f"{name}_token": piece for name, piece in names.items()}
    )
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reset_accelerate() -> None:
    """Forget the processes and the precision of an earlier run: Accelerate keeps one state per process."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def client(uri: str) -> Any:
    """Client of a store."""
    from mlflow import MlflowClient

    return MlflowClient(uri)


def predictions(folder: Path, role: str) -> tuple[Any, dict[str, np.ndarray]]:
    """The table of a split's predictions, and its columns as arrays (n, k)."""
    table = pyarrow.parquet.read_table(folder / artifacts.predictions_file(role))
    arrays = {name: np.array(table[name].to_pylist()) for name in ("labels", "observed", "logits")}
    return table, arrays


def as_scores(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of `predictions` under the names of LabelledScores."""
    return {"scores": arrays["logits"], "labels": arrays["labels"], "observed": arrays["observed"]}


def runs_of(uri: str) -> list[Any]:
    """Every run of a store."""
    store = client(uri)
    return list(store.search_runs([experiment.experiment_id for experiment in store.search_experiments()]))


def only_run(uri: str) -> Any:
    """The one run of a store."""
    (run,) = runs_of(uri)
    return run


def repeatable(scores: dict[str, float]) -> dict[str, float]:
    """The scores of a run that the same settings give again: without time and energy."""
    measured = {artifacts.MODEL_LATENCY_MS, artifacts.TRAIN_SECONDS, *map(artifacts.train_joules, ("gpu", "processor"))}
    return {name: value for name, value in scores.items() if name not in measured}


def read_json(path: Path) -> Any:
    """Content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Finished:
    """A run that has ended well, on its tracking store and on disk."""

    uri: str
    run: Any
    folder: Path
    experiment: str


class Recorder(NullTracker):
    """Records the calls of a run."""

    def __init__(self, folder: Path) -> None:
        super().__init__("run", folder)
        self.points: list[tuple[int, dict[str, float]]] = []
        self.tags: dict[str, Any] = {}
        self.datasets: list[tuple[Any, ...]] = []
        self.registered: list[str] = []

    def log_metrics(self, metrics, step):
        self.points.append((step, dict(metrics)))

    def set_tags(self, tags):
        self.tags |= dict(tags)

    def log_dataset(self, *facts):
        self.datasets.append(facts)

    def register(self, name):
        self.registered.append(name)
        return 1


@dataclass
class Observed:
    """What can be seen of a run without a tracking server."""

    status: Any = None
    error: str = ""
    workers: list[int] = field(default_factory=list)
    tracker: Any = None
    loop: Any = None
    fitted: Any = None
    outcome: Any = None
    saved_at: list[int] = field(default_factory=list)
    train_batches: list[int] = field(default_factory=list)
    eval_batches: list[int] = field(default_factory=list)
    layer_calls: int = 0
    """Forward passes of encoder layers in training, those repeated for the backward pass included."""

    def series(self, name: str) -> list[tuple[int, float]]:
        """Step and value of a metric, in the order in which they came."""
        return [(step, values[name]) for step, values in self.tracker.points if name in values]

    def dev_logits(self) -> list[list[float]]:
        """Logits of the kept weights on dev."""
        return self.fitted.dev_logits.tolist()


class Observer:
    """Runs `train` with a recorder in place of MLflow, and without cost, figures, report and saved model."""

    def __init__(self, monkeypatch: Any) -> None:
        self.seen = Observed()
        self._build_loop, self._save, self._save_state = (
            pipeline.build_loop,
            pipeline.TrainingRun.save,
            CheckpointStore.save_state,
        )
        monkeypatch.setattr(pipeline, "open_run", self.open_run)
        monkeypatch.setattr(pipeline, "build_loop", self.build_loop)
        monkeypatch.setattr(pipeline.TrainingRun, "save", self._as_method(self.save))
        monkeypatch.setattr(pipeline.TrainingRun, "_write_report", lambda *_: None)
        monkeypatch.setattr(CheckpointStore, "save_state", self._as_method(self.save_state))
        monkeypatch.setattr(pipeline, "measure_cost", lambda *_: {})
        monkeypatch.setattr(results, "write_figures", lambda *_: [])
        monkeypatch.setattr(saving, "save", lambda *_: None)
        monkeypatch.setattr(pipeline.packaging, "save_model", lambda *_, **__: None)
        monkeypatch.setattr(launcher, "run_workers", self.run_workers)

    @staticmethod
    def _as_method(bound: Any) -> Any:
        def method(owner: Any, *parts: Any) -> Any:  # set on a class, `bound` itself would not be given the object
            return bound(owner, *parts)

        return method

    def run(self, settings: dict[str, Any]) -> Observed:
        """What can be seen of the run of these settings."""
        seen = self.seen = Observed()
        reset_accelerate()
        hook = register_module_forward_pre_hook(self.note_pass)
        try:
            seen.status = main(as_argv(settings))
        except SystemExit as stop:
            seen.status = stop.code
        finally:
            hook.remove()
        return seen

    @contextmanager
    def open_run(self, output: Path, prepare: Any, *, tags: Any, **_: Any) -> Iterator[Recorder]:
        self.seen.tracker = Recorder(output / "run")
        prepare(self.seen.tracker.folder)
        self.seen.tracker.set_tags(tags)
        yield self.seen.tracker

    def build_loop(self, *parts, **more):
        self.seen.loop = self._build_loop(*parts, **more)
        return self.seen.loop

    def save(self, run, dataset, components, fitted, evaluation, predictions):
        self.seen.fitted, self.seen.outcome = fitted, evaluation
        self._save(run, dataset, components, fitted, evaluation, predictions)

    def save_state(self, store, step, shared):
        self.seen.saved_at.append(step)
        self._save_state(store, step, shared)

    def run_workers(self, _module, _words, processes):
        self.seen.workers.append(processes)
        return 0

    def note_pass(self, module, inputs):
        if isinstance(module, EmotionClassifier):
            (self.seen.train_batches if module.training else self.seen.eval_batches).append(len(inputs[0]))
        elif module.training and type(module).__name__ == "BertIntermediate":
            self.seen.layer_calls += 1
