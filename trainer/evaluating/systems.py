"""What is evaluated: a saved model, or a file of predictions. Both answer for the examples of a split."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from trainer.core import artifacts
from trainer.core.errors import DataError, ModelError, SettingsError, nearest, shorten
from trainer.core.input_files import is_file
from trainer.core.redaction import redact
from trainer.core.scratch import scratch_folder
from trainer.data.dataset import Split
from trainer.data.predictions_file import PredictionsFile, read_predictions_file
from trainer.data.seen_texts import SeenTexts, read_seen_texts
from trainer.evaluating.config import EvaluateConfig, is_predictions
from trainer.evaluation.arrays import FloatArray
from trainer.evaluation.evaluation import Decisions
from trainer.evaluation.thresholds import FIXED_THRESHOLD, predict
from trainer.serving.opening import FORMS, check_code, load_scorer
from trainer.tracking.connection import connect
from trainer.tracking.model_address import download_model, find_logged_model, resolve_on_server
from trainer.tracking.registration import folder_digest

if TYPE_CHECKING:
    from trainer.serving.scoring import TextScorer

__all__ = ["Answers", "Evaluated", "Facts", "open_evaluated"]

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(r"models:/+([^/]+)/(\d+)")
_RUN_CHARACTERS = 8
"""Of a run id, in a name for people."""
_GIVEN = "given"
"""Policy of decisions that a file states."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Probabilities and decisions of n examples, in the labels of the model."""

    probabilities: FloatArray
    """(n, k)."""
    decisions: Decisions


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a model or file before it answers."""

    name: str
    """Short name for people: `emotions/3`, or the name of a folder or file."""
    source: str
    """Address with its version."""
    label_names: tuple[str, ...]
    digest: str = ""
    """Of the files of a model."""
    model_id: str = ""
    """Of the logged model on the server; empty where it has none."""
    seen: SeenTexts | None = None
    """None where it is not known what the model was trained on."""
    warnings: Sequence[str] = field(default_factory=tuple)


class Evaluated(Protocol):
    """A model or a file of predictions."""

    @property
    def facts(self) -> Facts:
        """What is known of it."""

    def answer(self, split: Split, kept: npt.NDArray[np.intp]) -> Answers:
        """Return the answers for the examples `kept` of a split. Raises DataError for other examples than its own."""


@contextmanager
def open_evaluated(address: str, config: EvaluateConfig, label_names: Sequence[str]) -> Iterator[Evaluated]:
    """Give the model or the predictions at an address. label_names: those of the data.

    Raises TrackingError, RegistryError, ModelError, DataError or SettingsError as `predict` does.
    """
    if is_predictions(address):
        yield _File(read_predictions_file(Path(address), config.data, label_names), config, label_names)
        return
    with scratch_folder() as scratch:
        yield _open_model(address, config, scratch)


@dataclass(frozen=True, eq=False)
class _Model:
    facts: Facts
    scorer: "TextScorer"
    policy: str
    threshold: float

    def answer(self, split: Split, kept: npt.NDArray[np.intp]) -> Answers:
        """See `Evaluated`."""
        probabilities = self.scorer.probabilities([split.texts[example] for example in kept])
        thresholds, policy = self.scorer.thresholds, self.policy or self.scorer.default_policy
        if self.threshold >= 0:
            policy = f"threshold {self.threshold:g}"
            thresholds = {policy: np.full(len(self.scorer.label_names), self.threshold)}
        return _answers(probabilities, thresholds, policy)


class _File:
    def __init__(self, file: PredictionsFile, config: EvaluateConfig, data_names: Sequence[str]) -> None:
        path = Path(file.file)
        self._file, self._threshold = file, config.threshold
        self.facts = Facts(name=path.name, source=str(path.resolve()), label_names=file.label_names)
        unknown = [name for name in file.label_names if name not in data_names]
        if unknown and not config.label_mapping:
            count = "a label" if len(unknown) == 1 else f"{len(unknown)} labels"
            raise DataError(
                f"{shorten(path.name, 40)} has {count} that the data lacks: {shorten(', '.join(unknown))}."
                f"{nearest(unknown[0], list(data_names))} Rename or remove the columns, or name a label_mapping."
            )
        if config.policy:
            raise SettingsError(f"`policy` must be empty with predictions from a file, got {shorten(config.policy)}.")
        self._label_names, self._data_names = file.label_names, data_names

    def answer(self, split: Split, kept: npt.NDArray[np.intp]) -> Answers:
        """See `Evaluated`."""
        rows = self._file.rows_of(split)
        self._file.check_labels(split, self._data_names, rows)
        rows = rows[kept]
        probabilities = self._file.probabilities[rows]
        if self._file.decisions is not None and self._threshold < 0:
            unknown = np.full(len(self._label_names), np.nan)
            decided = {_GIVEN: self._file.decisions[rows]}
            decisions = Decisions(predictions=decided, thresholds={_GIVEN: unknown}, policy=_GIVEN)
            return Answers(probabilities=probabilities, decisions=decisions)
        threshold = FIXED_THRESHOLD if self._threshold < 0 else self._threshold
        policy = f"threshold {threshold:g}"
        return _answers(probabilities, {policy: np.full(len(self._label_names), threshold)}, policy)


def _answers(probabilities: FloatArray, thresholds: dict[str, FloatArray], policy: str) -> Answers:
    predictions = {name: predict(probabilities, at) for name, at in thresholds.items()}
    decisions = Decisions(predictions=predictions, thresholds=thresholds, policy=policy)
    return Answers(probabilities=probabilities, decisions=decisions)


def _open_model(address: str, config: EvaluateConfig, scratch: Path) -> _Model:
    folder, source = _local_folder(address)
    on_server = ""
    if folder is None:
        source = on_server = resolve_on_server(source)
        folder = download_model(source, scratch)
    elif _RUN_ID.fullmatch(Path(source).name):  # a run folder, whose run may be on the server
        on_server = f"runs:/{Path(source).name}/{artifacts.MODEL}"
    warning = check_code(folder, source)
    scorer = load_scorer(folder, source, config.policy or None)
    facts = Facts(
        name=_short_name(source),
        source=source,
        label_names=scorer.label_names,
        digest=folder_digest(folder),
        model_id=find_logged_model(connect().client, on_server) if on_server else "",
        seen=_seen_texts(folder),
        warnings=(warning,) if warning else (),
    )
    return _Model(facts, scorer, config.policy, config.threshold)


def _local_folder(address: str) -> tuple[Path | None, str]:
    """Return the folder of a model on this machine and its name; no folder for an address on the server."""
    if address.startswith(("http://", "https://")):
        raise ModelError(f"`model` must be {FORMS}, got {shorten(redact(address))}.")
    if ":/" in address:
        return None, address
    path = Path(address).expanduser()
    if _RUN_ID.fullmatch(address) and not path.exists():
        return None, f"runs:/{address}/{artifacts.MODEL}"
    inner = path / artifacts.MODEL
    return (inner if is_file(inner / "MLmodel") else path), str(path.resolve())


def _short_name(source: str) -> str:
    if match := _VERSION.fullmatch(source):
        return f"{match[1]}/{match[2]}"
    parts = [part for part in re.split(r":?/+", source) if part]
    name = parts[-2] if len(parts) > 1 and parts[-1] == artifacts.MODEL else parts[-1]
    return name[:_RUN_CHARACTERS] if _RUN_ID.fullmatch(name) else name


def _seen_texts(folder: Path) -> SeenTexts | None:
    path = folder / "artifacts" / artifacts.SEEN_TEXTS
    return read_seen_texts(path) if is_file(path) else None
