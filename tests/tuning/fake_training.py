"""Stands in for `trainer.train`: takes its arguments, records as it does, and needs no time for it.

`fake.json` in the output folder says how it behaves: see `Behaviour`. It runs in a thread of the search, or as a
module.
"""

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

from trainer.config import PRESETS, TrainConfig, parse
from trainer.core import artifacts
from trainer.core.presets import load_preset
from trainer.core.settings import flatten, from_flat
from trainer.tracking.event_log import EventLog
from tuning.execution.executor import TrainingFailedError, TrainingKilledError

BEHAVIOUR = "fake.json"
CAUSE = "loss is not finite at step 3"


@dataclasses.dataclass(frozen=True)
class Behaviour:
    epoch_seconds: float = 0.0
    fails_above: float = 1.0
    """Learning rate above which training ends with an error."""
    is_silent: bool = False
    """Whether the outcome lacks the score."""
    kills: int = 0
    """How often a training is killed at its second epoch, as when memory runs out."""
    forgets: str = ""
    """Setting that does not reach the training."""

    def write(self, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        (output / BEHAVIOUR).write_text(json.dumps(dataclasses.asdict(self)))


class FakeExecutor:
    """An `Executor` that trains nothing, in the thread that asks for it."""

    def __init__(self, train=None):
        self.train = train or globals()["train"]

    def run(self, request, resources, monitor):
        preset = request.settings.get("preset", "starter")
        given = {**load_preset(preset, PRESETS), **request.settings}
        settings = flatten(from_flat(TrainConfig, given))  # parsing arguments is not safe in threads
        with (request.folder / "resources").open("a") as file:
            file.write(f"{list(resources.cores)} {resources.gpus}\n")

        def log(metrics):
            monitor.report([{"train/epoch": metrics.pop("train/epoch")}, metrics])
            monitor.check()

        self.train(settings, request.folder, log)


def score_of(settings: dict, epoch: int) -> float:
    """Highest at a learning rate of 1e-3; better with every epoch; a little better with higher seeds."""
    distance = abs(settings["learning_rate"] - 1e-3) / 1e-3
    return 0.8 / (1 + distance) * epoch / (epoch + 1) + 1e-4 * settings["seed"] % 0.01


def train(settings: dict, folder: Path, log=lambda metrics: None) -> None:
    behaviour = Behaviour(**json.loads((folder.parent / BEHAVIOUR).read_text()))
    with (folder / "lives").open("a") as file:
        file.write(f"{os.getpid()}\n")
    used = {name: value for name, value in settings.items() if name != behaviour.forgets}
    (folder / artifacts.CONFIG).write_text(json.dumps(used))
    if settings["learning_rate"] > behaviour.fails_above:
        raise TrainingFailedError(CAUSE)
    with EventLog(folder) as events:
        events.append(folder.name, "open", {"uri": os.environ["MLFLOW_TRACKING_URI"]})
        score = _epochs(settings, behaviour, folder, events, log)
        events.append(folder.name, "status", {"status": "FINISHED"})
    dev = {"dev/macro_f1": score, "dev/macro_ap": score, "model/size_mb": 10.0 * settings["epochs"]}
    scores = {} if behaviour.is_silent else dev
    scores |= {"test/macro_f1": score - 0.02} if settings["read_test"] else {}
    (folder / artifacts.OUTCOME).write_text(json.dumps(scores))


def _epochs(settings, behaviour, folder, events, log) -> float:
    checkpoints = folder / artifacts.CHECKPOINTS
    checkpoints.mkdir(exist_ok=True)
    done = max((int(path.name) for path in checkpoints.iterdir()), default=0)
    for epoch in range(done + 1, settings["epochs"] + 1):
        time.sleep(behaviour.epoch_seconds)
        if epoch == 2 and len((folder / "lives").read_text().splitlines()) <= behaviour.kills:
            raise TrainingKilledError("its process was killed from outside (exit status -9)")
        (checkpoints / str(epoch)).touch()
        metrics = {"dev/macro_f1": score_of(settings, epoch)}
        events.append(folder.name, "metrics", {"metrics": {"train/epoch": epoch}, "step": epoch})
        events.append(folder.name, "metrics", {"metrics": metrics, "step": epoch})
        log({"train/epoch": epoch, **metrics})
    return score_of(settings, settings["epochs"])


def main(argv: list[str], train=train) -> int:
    settings = flatten(parse(argv))
    try:
        train(settings, Path(settings["output"]) / (settings["resume"] or os.environ["MLFLOW_RUN_ID"]))
    except TrainingFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except TrainingKilledError:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
