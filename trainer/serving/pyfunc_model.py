"""The model as it is served. MLflow runs this file when it loads a bundle, with only the bundle beside it.

Input: a DataFrame, or a dict of columns, with a column `text`; a list or array of texts, a Series, or one text.
Output: a DataFrame, one row per text under the same index, with a probability per label and `labels`, the list of
those at or above their threshold, the most probable first. Parameters: policy (a threshold policy), threshold (one for
all labels, instead of the policy's), top_k (at most so many labels; 0 = all), return_probabilities (false: `labels`
alone).

Precision is chosen at loading: mlflow.pyfunc.load_model(uri, model_config={"precision": "int8"}), and for a server with
MLflow's own variable: SERVING_MODEL_CONFIG='{"precision": "int8"}' mlflow models serve. It is fp32, the numbers of the
evaluation; bf16, in the encoder; or int8, in the encoder's linear layers, always on the CPU. In int8 a text's
probabilities depend a little on the texts that are scored with it.
"""

import importlib
import json
import queue
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

__all__ = ["ServedClassifier"]

_TEXT = "text"
_LABELS = "labels"
_BATCH_PIECES = {"cpu": 1024, "cuda": 4096}  # with padding; more would not fit the caches of a CPU
_SLICE_TEXTS = 8192  # encoded at a time, so that memory does not grow with the number of texts
_BAD_SHOWN = 10
_VALUE_SHOWN = 60

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]


class ServedClassifier(PythonModel):
    """Probabilities and labels of texts."""

    def load_context(self, context: Any) -> None:
        """Read the classifier and its description from the bundle. Raises MlflowException for an unknown precision."""
        self.serving = json.loads(Path(context.artifacts["serving"]).read_text(encoding="utf-8"))
        self._calibration, saving = self._module("core.calibration"), self._module("model.saving")
        self._batches, self._tokens = self._module("data.batches"), self._module("data.tokens")
        self._precisions = self._module("model.precision")
        self.precision = _precision(context.model_config, self._precisions.PRECISIONS)
        self.model, self.tokenizer, self.label_names = saving.load(Path(context.artifacts["classifier"]))
        if self.precision == "int8":
            self._precisions.use_int8(self.model.encoder)
        on_gpu = torch.cuda.is_available() and self.precision != "int8"
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.model.to(self.device)
        self._waiting: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._turn = threading.Lock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a row per text, as the module's description says. Raises MlflowException for bad input."""
        # DataFrame is the one hint that keeps MLflow from checking, and refusing, the other forms of input.
        texts, index = _texts(model_input)
        params = params or {}
        thresholds, top_k = self._thresholds(params), _top_k(params)
        probabilities = self.probabilities(texts)
        labels = pd.Series(self._chosen(probabilities, thresholds, top_k), index=index, dtype=object, name=_LABELS)
        if params.get("return_probabilities") is False:
            return labels.to_frame()
        table = pd.DataFrame(probabilities, columns=list(self.label_names), index=index)
        table[_LABELS] = labels
        return table

    def probabilities(self, texts: list[str]) -> Floats:
        """(n, k): sigmoid(logits / temperature), with the logits in float32."""
        found: Floats = self._calibration.apply_temperature(self._logits(texts), self.serving["temperature"])
        return found

    def _module(self, name: str) -> Any:
        # The bundle's code has a package name of its own: `trainer` may be another version of it here.
        return importlib.import_module(f"{self.serving['package']}.{name}")

    def _logits(self, texts: list[str]) -> Logits:
        """(n, k). A server calls from several threads: whoever has the turn scores what others have brought as well."""
        mine = _Request(texts)
        self._waiting.put(mine)
        with self._turn:
            if mine.logits is None:
                self._answer([mine, *(other for other in _taken(self._waiting) if other is not mine)])
        logits: Logits = mine.logits
        return logits

    def _answer(self, requests: list["_Request"]) -> None:
        logits = self._score([text for request in requests for text in request.texts])
        ends = np.cumsum([len(request.texts) for request in requests])
        for request, part in zip(requests, np.split(logits, ends[:-1]), strict=True):
            request.logits = part

    def _score(self, texts: list[str]) -> Logits:
        logits = np.zeros((len(texts), len(self.label_names)), dtype=np.float32)
        for start in range(0, len(texts), _SLICE_TEXTS):
            part = slice(start, start + _SLICE_TEXTS)
            pieces = self._tokens.encode(texts[part], self.tokenizer, max_length=self.serving["max_length"])
            for rows in self._batches.sequential_batches(pieces.lengths, max_tokens=_BATCH_PIECES[self.device.type]):
                arrays = self._batches.pad(pieces, rows, self.tokenizer.pad_token_id)
                logits[part][rows] = self._forward(*(torch.from_numpy(array).to(self.device) for array in arrays))
        return logits

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Logits:
        with torch.inference_mode(), self._precisions.autocast(self.device, self.precision):
            logits: Logits = self.model(ids, mask).cpu().numpy()
        return logits

    def _thresholds(self, params: Mapping[str, Any]) -> Floats:
        threshold, policies = params.get("threshold"), self.serving["thresholds"]
        policy = params.get("policy") or self.serving["default_policy"]
        if policy not in policies:
            raise _bad(f"policy must be one of {', '.join(policies)}, but got {policy=}.")
        if threshold is None:
            return np.asarray(policies[policy], dtype=np.float64)
        if not 0 <= threshold <= 1:
            raise _bad(f"threshold must be in [0, 1], but got {threshold=}.")
        return np.full(len(self.label_names), threshold, dtype=np.float64)

    def _chosen(self, probabilities: Floats, thresholds: Floats, top_k: int) -> list[list[str]]:
        names = np.asarray(self.label_names, dtype=object)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        above = np.take_along_axis(probabilities >= thresholds, order, axis=1)
        return [names[best[chosen]][: top_k or None].tolist() for best, chosen in zip(order, above, strict=True)]


class _Request:
    """Texts of one call, and their logits (n, k) once they are scored."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.logits: Any = None


def _taken(waiting: "queue.SimpleQueue[_Request]") -> Iterator[_Request]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def _precision(config: Mapping[str, Any] | None, choices: Sequence[str]) -> str:
    precision = (config or {}).get("precision", choices[0])
    if precision not in choices:
        raise _bad(f"precision must be one of {', '.join(choices)}, but got {precision=}.")
    return str(precision)


def _top_k(params: Mapping[str, Any]) -> int:
    top_k = int(params.get("top_k") or 0)
    if top_k < 0:
        raise _bad(f"top_k must be 0 (all) or more, but got {top_k=}.")
    return top_k


def _texts(model_input: Any) -> tuple[list[str], pd.Index]:
    column = _column(model_input)
    index = column.index if isinstance(column, pd.Series) else pd.RangeIndex(len(column))
    texts = list(column)
    bad = {row: value for row, value in enumerate(texts) if not _is_text(value)}
    if bad:
        shown = ", ".join(f"row {row}: {_shown(value)}" for row, value in list(bad.items())[:_BAD_SHOWN])
        raise _bad(
            f"every text must be a string of Unicode characters, but got {len(bad)} that are not ({shown}). "
            "Leave these rows out."
        )
    return texts, index


def _column(model_input: Any) -> Any:
    """The texts of any form of input, still with their index where there is one."""
    if isinstance(model_input, pd.DataFrame | Mapping):
        if not all(isinstance(name, Hashable) for name in model_input):
            raise TypeError("names of columns must be strings")  # MLflow cannot print such a table beside our own error
        if _TEXT not in model_input:
            raise _bad(f"input must have a column {_TEXT!r}, but got columns={_shown(list(model_input))}.")
        model_input = model_input[_TEXT]
    if isinstance(model_input, np.ndarray) and not model_input.ndim:
        model_input = model_input.item()
    if isinstance(model_input, str):
        model_input = [model_input]
    if not isinstance(model_input, pd.Series | np.ndarray | list | tuple):
        kind = type(model_input).__name__
        raise _bad(
            f"input must be a DataFrame with one column {_TEXT!r}, a Series or a list of texts, but got {kind=}."
        )
    return model_input


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False
    return True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}..."


def _bad(message: str) -> MlflowException:
    # MLflow's own class: its server answers 400 with the message, and a caller has no other class of ours to catch.
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


set_model(ServedClassifier())
