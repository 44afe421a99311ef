"""What attacks begin with, made once and copied: data, an encoder, a finished run, a registered champion."""

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.chaos import commands
from tests.chaos.commands import Ended
from tests.tracking.tracking_helpers import Server

__all__ = ["Champions", "Measured", "TemplateError", "Templates", "accept_candidates"]

_SCORED_ROWS = 40


class TemplateError(Exception):
    """A template cannot be made: there is nothing to attack."""


@dataclass(frozen=True)
class Measured:
    """An undisturbed command: its folder, seconds and writes."""

    folder: Path
    seconds: float
    writes: int


@dataclass(frozen=True)
class Champions:
    """A store with three runs, of which the first two were promoted one after the other."""

    folder: Path
    run_ids: list[str]


class Templates:
    """Makes each template when an attack first asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._made: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    @property
    def store(self) -> Path:
        """Database file with MLflow's tables: making them takes seconds, a copy none."""
        return self.once("store", self._make_store)

    @property
    def data(self) -> Path:
        """Folder with train, dev and test as CSV."""
        return self.once("data", lambda: Path(self._call("data", _make_data)))

    @property
    def encoder(self) -> Path:
        """Folder of an encoder of two layers."""
        return self.once("encoder", lambda: Path(self._call("encoder", _make_encoder)))

    @property
    def training(self) -> list[str]:
        """Arguments of a training of 15 steps."""
        given = {"dataset": self.data, "model": self.encoder, "max_length": 32, "epochs": 3, "batch_size": 16}
        given |= {"learning_rate": 1e-3, "precision": "fp32", "log_steps": 2, "bootstrap_resamples": 100}
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]

    @property
    def trained(self) -> Measured:
        """An undisturbed training: its results are what resumed trainings must repeat."""
        return self.once("trained", lambda: self.measure("trained", "trainer.train", self.training))

    @property
    def champions(self) -> Champions:
        """Three trainings; the second is champion, the first was before."""
        return self.once("champions", self._make_champions)

    @property
    def server(self) -> Server:
        """A running `mlflow server`, which all attempts share."""
        return self.once("server", self._start_server)

    @property
    def saved_model(self) -> Path:
        """Folder of a model as MLflow has it."""
        (model,) = self.trained.folder.glob("runs/*/model")
        return model

    @property
    def texts(self) -> Path:
        """CSV file with texts to score."""
        return self.once("texts", self._make_texts)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` has returned, called by the first thread that asks."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._made:
                try:
                    self._made[name] = make()
                except Exception as error:
                    raise TemplateError(f"Cannot make the template {name}") from error
            return self._made[name]

    def new_folder(self, folder: Path) -> Path:
        """Make a folder with an empty store."""
        folder.mkdir(parents=True)
        shutil.copy(self.store, folder / "mlflow.db")
        return folder

    def measure(self, name: str, module: str, argv: Sequence[object], start_from: Path | None = None) -> Measured:
        """Run a command undisturbed. start_from: the folder that it gets a copy of."""
        folder = self.folder / name
        if start_from:
            copy_place(start_from, folder)
        else:
            self.new_folder(folder)
        ended = commands.start(folder, module, argv, prepare=accept_candidates).wait()
        check_template(ended)
        return Measured(folder, ended.seconds, ended.writes)

    def close(self) -> None:
        """Stop the server."""
        if "server" in self._made:
            self._made["server"].stop()

    def _start_server(self) -> Server:
        folder = self.folder / "server"
        folder.mkdir()
        shutil.copy(self.store, folder / "mlflow.db")
        server = Server(folder)
        server.start()
        return server

    def _call(self, name: str, function: Callable[..., Any]) -> Any:
        folder = self.folder / f"make-{name}"
        folder.mkdir()
        return commands.call(folder, function, folder / name)

    def _make_store(self) -> Path:
        folder = self.folder / "store"
        folder.mkdir()
        commands.call(folder, _make_tables)
        return folder / "mlflow.db"

    def _make_champions(self) -> Champions:
        folder = self.new_folder(self.folder / "champions")
        for seed in (1, 2, 3):
            check_template(commands.start(folder, "trainer.train", [*self.training, "--seed", seed]).wait())
        run_ids = [path.parent.name for path in sorted(folder.glob("runs/*/outcome.json"), key=_seed)]
        for run_id in run_ids[:2]:
            argv = ["--run_id", run_id]
            check_template(commands.start(folder, "registry.promote", argv, prepare=accept_candidates).wait())
        return Champions(folder, run_ids)

    def _make_texts(self) -> Path:
        path = self.folder / "texts.csv"
        rows = [f't{number},"w{number % 40} w{number % 7}, w1"' for number in range(_SCORED_ROWS)]
        path.write_text("\n".join(["id,text", *rows]) + "\n")
        return path


def copy_place(source: Path, target: Path) -> Path:
    """Copy the store and the run folders of a template; artifacts stay where they are, their paths are absolute."""
    target.mkdir(parents=True)
    shutil.copy(source / "mlflow.db", target)
    if (source / "runs").is_dir():
        shutil.copytree(source / "runs", target / "runs")
    return target


def accept_candidates() -> None:
    """Let every candidate pass the gate, and replace the check of its saved model, a process of seconds."""
    from registry.promotion import gate, model_check

    fine = model_check.ModelCheck(
        examples=40,
        score_difference=0.0,
        label_differences=0,
        setting_differences=(),
        latency_ms_p50=1.0,
        latency_ms_p95=1.0,
        size_mb=1.0,
        load_seconds=1.0,
    )
    model_check.check_model = lambda *_: fine

    def accepting(judge: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            verdict = judge(*arguments)
            return replace(verdict, rules=tuple(replace(rule, passed=True) for rule in verdict.rules))

        return call

    gate.judge_first, gate.compare = accepting(gate.judge_first), accepting(gate.compare)


def check_template(ended: Ended) -> None:
    """Raise AssertionError unless the command, which nothing disturbed, has ended well."""
    assert ended.status == 0, f"an undisturbed command ended with {ended.status}: {ended.text[-3000:]}"


def _seed(outcome: Path) -> int:
    return int(json.loads(outcome.with_name("config.json").read_text())["seed"])


def _make_tables() -> None:
    from mlflow import MlflowClient

    MlflowClient("sqlite:///mlflow.db").search_experiments()


def _make_data(folder: Path) -> str:
    from tests.train.train_helpers import make_data

    return str(make_data(folder))


def _make_encoder(folder: Path) -> str:
    from tests.train.train_helpers import save_model

    return str(save_model(folder))
