"""Trainings and searches that log to a service while a fault is made, and what the server has of them afterwards."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.chaos import commands
from tests.chaos.commands import Ended, Running
from tests.chaos.templates import Templates
from tests.service import slow_training
from tests.service.faults import Namespace

__all__ = ["EXPERIMENT", "Client", "Clients"]

EXPERIMENT = "faults"
_WORKERS = 2
_SPACE = "learning_rate: {low: 0.0005, high: 0.002, log: true}\n"


@dataclass(frozen=True)
class Client:
    """A running command in a folder of its own."""

    kind: str
    """`training` or `search`."""
    folder: Path
    running: Running

    @property
    def runs(self) -> list[Path]:
        """Its run folders."""
        return sorted(path.parent for path in self.folder.glob("runs/*/events.jsonl"))

    @property
    def has_begun(self) -> bool:
        """Whether a training of it has logged a step; also when it has ended."""
        logs = (run / "events.jsonl" for run in self.runs)
        return not self.running.is_alive() or any('"train/' in log.read_text(encoding="utf-8") for log in logs)


@dataclass
class Clients:
    """Starts commands against a service."""

    folder: Path
    environment: Mapping[str, str]
    templates: Templates
    pause: float
    """Seconds that each step of a training waits, about."""
    network: Namespace | None = None
    """Where the commands run; None for this machine's own network."""
    started: list[Client] = field(default_factory=list)

    def train(self) -> Client:
        """Start a training."""
        return self._start("training", "trainer.train", self._settings(), slow_training.slow_down)

    def tune(self, trials: int) -> Client:
        """Start a search with two workers."""
        settings = self._settings() | {"study": "faults", "trials": trials, "workers": _WORKERS, "pruner": "none"}
        settings |= {"space": "space.yaml", "sampler": "random", "top_k": 0}
        del settings["learning_rate"]
        return self._start("search", "tuning.tune", settings, slow_training.slow_trials_down)

    def have_begun(self) -> bool:
        """Return whether each training has logged a step, or has ended."""
        return all(client.has_begun for client in self.started if client.kind == "training")

    def _settings(self) -> dict[str, object]:
        data = {"dataset": self.templates.data, "model": self.templates.encoder, "max_length": 32}
        steps = {"epochs": 2, "batch_size": 4, "log_steps": 1, "learning_rate": 1e-3, "precision": "fp32"}
        return {**data, **steps, "bootstrap_resamples": 100}

    def _start(self, kind, module, settings, prepare) -> Client:
        folder = self.folder / f"{kind}-{len(self.started)}"
        folder.mkdir(parents=True)
        (folder / "space.yaml").write_text(_SPACE)
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        pause = self.pause * random.uniform(0.6, 1.8)  # some end during the fault, some after it
        variables = {**self.environment, slow_training.PAUSE: str(pause), "MLFLOW_EXPERIMENT_NAME": EXPERIMENT}
        enter = partial(_enter, self.network, prepare)
        client = Client(kind, folder, commands.start(folder, module, words, variables=variables, prepare=enter))
        self.started.append(client)
        return client

    def sync(self, client: Client) -> Ended:
        """Run `sync` for the runs of a client."""
        return commands.start(client.folder, "trainer.sync", [], variables=self.environment).wait()


def _enter(network: Namespace | None, prepare) -> None:
    if network is not None:
        network.enter()
    prepare()
