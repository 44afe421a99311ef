"""Mutated inputs: every file and value that a user gives is damaged at random or carries a payload."""

import csv
import io
import json
import os
import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

from tests.chaos import checks, commands
from tests.chaos.commands import ROOT, Ended
from tests.chaos.mutations import CANARY, mutate_bytes, mutate_json, mutate_text, odd_value, write_pickle
from tests.chaos.promises import Attack, Attempt

__all__ = ["ATTACKS"]

REFUSED = "A wrong input is read or refused with one message of at most 300 characters, within bounded time and memory"
NO_EFFECT = "No input runs code or writes a file of its own"
TRAINS = "A training on a mutated data set or encoder ends well or with one message"
_BATCH = 60
_SECONDS = 120
_MEMORY = 6 * 2**30
_WORDS = "\n".join(
    ["text,labels", *(f'"w{n} w{n % 7} hello",{("joy", "anger", "joy|calm", "")[n % 4]}' for n in range(30))]
)


class HangError(Exception):
    """An input takes longer than the limit."""


def batch(attempt: Attempt) -> None:
    """Give many mutated inputs of one kind to the code that reads them, in one process."""
    attempt.folder.mkdir()
    kind = sorted(_KINDS)[attempt.number % len(_KINDS)]
    attempt.note(f"{_BATCH} inputs of kind {kind}")
    templates = attempt.templates
    given = {"encoder": str(templates.encoder), "model": str(templates.saved_model)}
    seed = attempt.rng.random()
    for faults in commands.call(attempt.folder, read_batch, kind, seed, given, seconds=2 * commands.HANG_SECONDS):
        attempt.check(REFUSED, faults)
    attempt.check(NO_EFFECT, [f"{path} exists" for path in attempt.folder.rglob(CANARY)])


def read_batch(kind: str, seed: float, given: dict[str, str]) -> list[list[str]]:
    """Return the faults of each input of a batch."""
    from trainer.core.errors import EmotionsError

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    found = []
    for number in range(_BATCH):
        rng = random.Random(f"{seed}/{number}")
        folder = Path(f"input-{number}")
        folder.mkdir()
        try:
            with _time_limit(_SECONDS):
                _KINDS[kind](rng, folder, given)
        except EmotionsError as error:
            text = str(error)
            found.append([f"{folder}: message of {len(text)} characters: {text}"] if checks.too_long(text) else [])
        except SystemExit as stop:  # --help
            found.append([] if stop.code in (0, None) else [f"{folder}: exit {stop.code}"])
        except BaseException as error:  # any other would be a traceback
            found.append([f"{folder}: {type(error).__name__}: {str(error)[:300]}"])
        else:
            found.append([])
        if not found[-1]:
            shutil.rmtree(folder)
    return found


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _write_table(rng: random.Random, path: Path) -> None:
    """Write rows with text and labels in the format of the suffix, mutated."""
    rows = list(csv.DictReader(io.StringIO(_WORDS)))
    if path.suffix == ".parquet":
        _write_parquet(rng, path, rows)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(row | {"labels": row["labels"].split("|")}) for row in rows]
        place = rng.randrange(len(lines))
        if rng.random() < 0.7:
            lines[place] = mutate_json(json.loads(lines[place]), rng)
        text = "\n".join(lines)
        path.write_bytes(text.encode("utf-8", "surrogatepass") if rng.random() < 0.6 else mutate_text(text, rng))
    else:
        text = _WORDS if path.suffix == ".csv" else _WORDS.replace(",", "\t")
        path.write_bytes(mutate_text(text, rng))


def _write_parquet(rng: random.Random, path: Path, rows: list[dict[str, str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    texts = [row["text"] for row in rows]
    odd: list[Any] = [
        pa.array([text.encode() + b"\xff" for text in texts]),
        pa.array([[text] for text in texts]),
        pa.array([{"a": text} for text in texts]),
        pa.array([None] * len(texts)),
        pa.array(range(len(texts))),
        pa.array(texts).dictionary_encode(),
    ]
    labels = [row["labels"] for row in rows]
    columns = {
        "text": rng.choice([pa.array(texts), *odd]),
        "labels": rng.choice([pa.array(labels), pa.array([one.split("|") for one in labels]), *odd]),
        rng.choice(("id", "", "a" * 300, "text ")): pa.array(range(len(texts))),
    }
    pyarrow.parquet.write_table(pa.table(columns), path)
    if rng.random() < 0.5:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def write_data(rng: random.Random, folder: Path) -> None:
    """Write a data set with one mutated split."""
    suffix = rng.choice((".csv", ".csv", ".tsv", ".jsonl", ".parquet"))
    mutated = rng.choice(("train", "dev", "test"))
    for role in ("train", "dev", "test"):
        if role == mutated:
            _write_table(rng, folder / f"{role}{suffix}")
        else:
            (folder / f"{role}.csv").write_text(_WORDS.replace("hello", role))
    if rng.random() < 0.2:
        (folder / "labels.txt").write_bytes(mutate_text("anger\ncalm\njoy\n", rng))


def _data(rng: random.Random, folder: Path, _given: dict[str, str]) -> None:
    from trainer.data import sources
    from trainer.data.config import DataConfig

    write_data(rng, folder)
    sources.load(DataConfig(dataset=str(folder)), seed=1)


def _rows(rng: random.Random, folder: Path, given: dict[str, str]) -> None:
    path = folder / f"input{rng.choice(('.csv', '.tsv', '.jsonl', '.parquet', '.txt'))}"
    _write_table(rng, path)
    _predict(path, given["model"], folder / f"output{rng.choice(('.csv', '.jsonl', '.parquet'))}")


def _predict(path: Path, model: str, output: Path) -> None:
    """Run the command in this process; raise AssertionError for what its user must not see."""
    from registry import predict

    text = io.StringIO()
    with redirect_stderr(text), redirect_stdout(text):
        status = predict.main(["--input", str(path), "--output", str(output), "--model", model, "--chunk_rows", "7"])
    faults = checks.readable(Ended(status, text.getvalue(), 0.0, 0))
    assert not faults, faults[0]
    assert status in (0, 1, 3), f"exit status {status}"
    assert (status == 1) != output.exists(), (
        f"exit status {status}, and the output is {'' if output.exists() else 'not '}there"
    )


def _preset(rng: random.Random, folder: Path, _given: dict[str, str]) -> None:
    from trainer.config import parse

    shipped = sorted((ROOT / "trainer" / "presets").glob("*.yaml"))
    path = folder / "preset.yaml"
    path.write_bytes(mutate_text(rng.choice(shipped).read_text(), rng))
    parse(["--preset", str(path)])


def _space(rng: random.Random, folder: Path, _given: dict[str, str]) -> None:
    from trainer.config import TrainConfig
    from trainer.core.settings import flatten
    from tuning.space.parser import read_space

    path = folder / "space.yaml"
    path.write_bytes(mutate_text((ROOT / "tuning" / "space" / "default.yaml").read_text(), rng))
    base = flatten(TrainConfig())
    read_space(str(path), base, dict.fromkeys(base, "training"), ["bce", "asl"], [])


def _values(rng: random.Random, folder: Path, _given: dict[str, str]) -> None:
    from registry.config import HistoryConfig, PromoteConfig, RollbackConfig
    from registry.scoring.config import PredictConfig
    from trainer.config import TrainConfig, check_runnable, parse
    from trainer.core import settings
    from trainer.sync import SyncConfig
    from tuning.config import TuneConfig

    kind = rng.choice(
        (TrainConfig, TrainConfig, TuneConfig, PromoteConfig, RollbackConfig, HistoryConfig, PredictConfig, SyncConfig)
    )
    names = list(settings.flatten(kind()))
    argv = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice(names)
        name = rng.choice((name, name, name, name[:-1], name.upper(), odd_value(rng)))
        argv += rng.choice(
            ([f"--{name}", odd_value(rng)], [f"--{name}={odd_value(rng)}"], [f"--{name}"], [odd_value(rng)])
        )
    argv = [word.replace("\x00", "") for word in argv]  # no operating system passes it
    if kind is TrainConfig:
        check_runnable(parse(argv))
    else:
        settings.parse(kind, argv)


def _weights(rng: random.Random, folder: Path, _given: dict[str, str]) -> None:
    import numpy as np

    from trainer.model.class_weights import class_weights
    from trainer.model.config import LossConfig

    path = folder / "weights.json"
    _write_file(rng, path, lambda: mutate_json({"anger": 1.0, "joy": 2.5}, rng))
    labels = np.ones((4, 2), dtype=np.float32)
    class_weights(LossConfig(class_weights=str(path)), labels, labels.astype(bool), ["anger", "joy"])


def _write_file(rng: random.Random, path: Path, make: Callable[[], str]) -> None:
    """Write a file, or what is no regular file."""
    kind = rng.randrange(8)
    if kind == 0:
        path.symlink_to("/dev/zero")
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.mkdir()
    else:
        path.write_bytes(make().encode("utf-8", "surrogatepass"))


def _run_folder(rng: random.Random, folder: Path, _given: dict[str, str]) -> None:
    from trainer.config import TrainConfig
    from trainer.core import run_folder
    from trainer.core.settings import flatten

    defaults = flatten(TrainConfig())
    for name in ("a" * 32, "b" * 32):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(defaults, default=str))
    damaged = folder / ("a" * 32)
    settings = json.loads(json.dumps(defaults, default=str))
    for name in ("config.json", "outcome.json"):
        (damaged / name).unlink(missing_ok=True)
        _write_file(rng, damaged / name, lambda: mutate_json(settings, rng))
    run_folder.find_resumable(folder, rng.choice(("latest", "a" * 32)), defaults, defaults)


def _encoder(rng: random.Random, folder: Path, given: dict[str, str]) -> None:
    from trainer.model.config import ModelConfig
    from trainer.model.encoder import load_encoder

    copy = folder / "encoder"
    damage_encoder(rng, Path(given["encoder"]), copy)
    load_encoder(ModelConfig(model=str(copy)))


def damage_encoder(rng: random.Random, source: Path, copy: Path) -> None:
    """Copy an encoder with one damaged file."""
    shutil.copytree(source, copy)
    path = rng.choice(sorted(path for path in copy.iterdir() if path.is_file()))
    kind = rng.randrange(6)
    if kind == 0:
        path.unlink()
    elif kind == 1 and (copy / "model.safetensors").exists():
        (copy / "model.safetensors").unlink()
        write_pickle(copy / "pytorch_model.bin")
    elif kind == 2:
        (copy / "model.safetensors").unlink()
        write_pickle(copy / "weights.bin")
        index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "weights.bin"}}
        (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    elif path.suffix == ".json":
        path.write_text(mutate_json(json.loads(path.read_text()), rng), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def _model(rng: random.Random, folder: Path, given: dict[str, str]) -> None:
    """A logged model with a damaged file, or with code that the project did not write."""
    copy = folder / "model"
    shutil.copytree(given["model"], copy)
    path = rng.choice(sorted(path for path in copy.rglob("*") if path.is_file()))
    if path.suffix == ".py" or rng.random() < 0.2:
        path = rng.choice(sorted(copy.rglob("*.py")))
        path.write_text(f"open({CANARY!r}, 'w').close()\n{path.read_text()}")
    elif path.suffix == ".json":
        path.write_text(mutate_json(json.loads(path.read_text()), rng), encoding="utf-8", errors="surrogatepass")
    elif path.name == "MLmodel" and rng.random() < 0.4:
        (copy / "evil.py").write_text(f"open({CANARY!r}, 'w').close()\n")
        path.write_text(path.read_text().replace("mlflow.pyfunc.model", "evil"))
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    texts = folder / "texts.txt"
    texts.write_text("w1 w2\nw3\n")
    _predict(texts, str(copy), folder / "output.csv")


_KINDS: dict[str, Callable[[random.Random, Path, dict[str, str]], None]] = {
    "data": _data,
    "encoder": _encoder,
    "model": _model,
    "preset": _preset,
    "rows": _rows,
    "run folder": _run_folder,
    "space": _space,
    "values": _values,
    "weights": _weights,
}


def train(attempt: Attempt) -> None:
    """The whole command on a mutated data set, or with a damaged encoder."""
    templates, rng = attempt.templates, attempt.rng
    folder = templates.new_folder(attempt.folder)
    given = dict(zip(templates.training[::2], templates.training[1::2], strict=True)) | {"--epochs": "1"}
    if rng.random() < 0.7:
        (folder / "data").mkdir()
        write_data(rng, folder / "data")
        given["--dataset"] = "data"
    else:
        damage_encoder(rng, templates.encoder, folder / "encoder")
        given["--model"] = "encoder"
    ended = commands.start(folder, "trainer.train", [word for pair in given.items() for word in pair]).wait()
    attempt.check(
        TRAINS, [*checks.ended_well(ended, 0, 1), *checks.readable(ended), *checks.no_running(folder / "mlflow.db")]
    )
    attempt.check(NO_EFFECT, [f"{path} exists" for path in folder.rglob(CANARY)])


ATTACKS = (
    Attack("inputs/batch", batch, (REFUSED, NO_EFFECT), 3),
    Attack("inputs/train", train, (TRAINS, NO_EFFECT), 2),
)
