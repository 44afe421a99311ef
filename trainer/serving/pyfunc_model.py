"""The model as MLflow serves it: input in any form, output as a table. MLflow runs this file when it loads a model.

Input: a DataFrame, a dict of columns or a list of records, with a column `text`; a list or array of texts, a Series, or
one text. A column that is the only one may have any name: Spark numbers the columns of a UDF. Integers and booleans
in the column `text` become texts: the scoring server reads CSV with pandas, which turns 2016 into a number.
Output: a DataFrame, one row per text under the same index, with a probability per label and `labels`, the list of
those at or above their threshold, the most probable first. Parameters: policy (a threshold policy), threshold (one for
all labels, instead of the policy's), top_k (at most this many labels; 0 = all), return_probabilities (false: `labels`
alone).

The precision is chosen when the model is loaded: mlflow.pyfunc.load_model(uri, model_config={"precision": "int8"}), and
for a server with MLflow's own variable: SERVING_MODEL_CONFIG='{"precision": "int8"}' mlflow models serve. It is fp32,
the numbers of the evaluation; bf16, in the encoder; or int8, in the encoder's linear layers, always on the CPU. In int8
the probabilities of a text depend a little on the texts that are scored with it.
"""

import functools
import importlib
import json
import operator
import queue
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import load_model
from mlflow.pyfunc.model import PythonModel

__all__ = ["ServedClassifier"]

_TEXT = "text"
_LABELS = "labels"
_BAD_SHOWN = 10
_VALUE_SHOWN = 60

Floats = npt.NDArray[np.float64]


class ServedClassifier(PythonModel):
    """Probabilities and labels of texts."""

    def load_context(self, context: Any) -> None:
        """Load the classifiers from the model's artifacts. Raises MlflowException for an unknown precision."""
        description = Path(context.artifacts["serving"])
        # The model's code has a package name of its own: `trainer` may be another version of it in this process.
        package = json.loads(description.read_text(encoding="utf-8"))["package"]
        precisions = importlib.import_module(f"{package}.model.optimizations.quantization").PRECISIONS
        precision = _precision(context.model_config, precisions)
        self.scorer: Any = importlib.import_module(f"{package}.serving.scoring").TextScorer(
            description.parent, precision=precision
        )
        self._saved = _Saved(description.resolve().parents[1], dict(context.model_config or {}))
        self._waiting: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._scoring = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how a copy, or another process on this machine, loads the model again from its folder."""
        return operator.methodcaller("unwrap_python_model"), (self._saved,)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row per text, as the module's docstring describes. Raises MlflowException for bad input."""
        # DataFrame is the one hint that keeps MLflow from checking, and refusing, the other forms of input.
        texts, index = _texts(model_input)
        params = params or {}
        thresholds, top_k = self._thresholds(params), _top_k(params)
        probabilities = self.probabilities(texts)
        chosen = self.scorer.labels(probabilities, thresholds, top_k=top_k)
        labels = pd.Series(chosen, index=index, dtype=object, name=_LABELS)
        if params.get("return_probabilities") is False:
            return labels.to_frame()
        table = pd.DataFrame(probabilities, columns=list(self.scorer.label_names), index=index)
        table[_LABELS] = labels
        return table

    def probabilities(self, texts: list[str]) -> Floats:
        """Return (n, k). The thread that has the lock scores the waiting texts of all threads of the server."""
        mine = _Request(texts)
        self._waiting.put(mine)
        with self._scoring:  # one thread at a time: a tokenizer keeps the length that it truncates to
            if mine.probabilities is None:  # else another thread has scored them
                # After another thread's batch failed, `mine` is no longer in the queue.
                self._answer([mine, *(other for other in _taken(self._waiting) if other is not mine)])
        probabilities: Floats = mine.probabilities
        return probabilities

    def _answer(self, requests: list["_Request"]) -> None:
        probabilities = self.scorer.probabilities([text for request in requests for text in request.texts])
        ends = np.cumsum([len(request.texts) for request in requests])
        for request, part in zip(requests, np.split(probabilities, ends[:-1]), strict=True):
            request.probabilities = part

    def _thresholds(self, params: Mapping[str, Any]) -> Floats:
        threshold, policies = params.get("threshold"), self.scorer.thresholds
        policy = params.get("policy") or self.scorer.default_policy
        if policy not in policies:
            raise _bad(f"`policy` must be one of {', '.join(policies)}, got {policy}.")
        if threshold is None:
            return np.asarray(policies[policy], dtype=np.float64)
        if not 0 <= threshold <= 1:
            raise _bad(f"`threshold` must be in [0, 1], got {threshold}.")
        return np.full(len(self.scorer.label_names), threshold, dtype=np.float64)


class _Saved:
    """The folder of a loaded model. Its pickle names no class of this module, which no other process could import."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._load = functools.partial(load_model, str(folder), model_config=config)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._load, ()

    def unwrap_python_model(self) -> Any:
        """Return the model loaded again: `copy.copy` calls this instead of unpickling."""
        model: Any = self._load()
        return model.unwrap_python_model()


class _Request:
    """Texts of one call, and their probabilities (n, k) once they are scored."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.probabilities: Any = None


def _taken(waiting: "queue.SimpleQueue[_Request]") -> Iterator[_Request]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def _precision(config: Mapping[str, Any] | None, choices: Sequence[str]) -> str:
    precision = (config or {}).get("precision", choices[0])
    if precision not in choices:
        raise _bad(f"`precision` must be one of {', '.join(choices)}, got {precision}.")
    return str(precision)


def _top_k(params: Mapping[str, Any]) -> int:
    top_k = int(params.get("top_k") or 0)
    if top_k < 0:
        raise _bad(f"`top_k` must be at least 0 (0 = all), got {top_k}.")
    return top_k


def _texts(model_input: Any) -> tuple[list[str], pd.Index]:
    column = _column(model_input)
    index = column.index if isinstance(column, pd.Series) else pd.RangeIndex(len(column))
    texts = list(column)
    bad = {row: value for row, value in enumerate(texts) if not _is_text(value)}
    if bad:
        shown = ", ".join(f"row {row}: {_shown(value)}" for row, value in list(bad.items())[:_BAD_SHOWN])
        raise _bad(
            f"Every text must be a string of Unicode characters, got {len(bad)} of another kind ({shown}). "
            "Leave these rows out, or send JSON: numbers and missing cells of CSV are guesses."
        )
    return texts, index


def _column(model_input: Any) -> Any:
    """Return the texts of any form of input; a Series keeps its index."""
    model_input = _plain(model_input)
    if isinstance(model_input, list) and model_input and all(isinstance(one, Mapping) for one in model_input):
        model_input = pd.DataFrame([{name: _plain(cell) for name, cell in one.items()} for one in model_input])
    if isinstance(model_input, pd.DataFrame | Mapping):
        model_input = _plain(_text_column(model_input))
    if isinstance(model_input, str):
        model_input = [model_input]
    if not isinstance(model_input, pd.Series | list | tuple):
        kind = type(model_input).__name__
        raise _bad(f"The input must be a DataFrame with one column `{_TEXT}`, a Series or a list of texts, got {kind}.")
    return model_input


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value  # the server makes an array of each cell


def _text_column(table: pd.DataFrame | Mapping[Hashable, Any]) -> Any:
    if not all(isinstance(name, Hashable) for name in table):
        raise TypeError("names of columns must be strings")  # MLflow cannot print such a table with our error
    names = list(table)
    if isinstance(table, pd.DataFrame) and table.empty and not names:  # no records: no rows
        return []
    if _TEXT not in names and len(names) != 1:
        raise _bad(f"The input must have a column `{_TEXT}`, got {_shown([str(name) for name in names])}.")
    column = table[_TEXT if _TEXT in names else names[0]]
    # Floats are not converted: 1.10 has become 1.1, and a missing cell turns integers into floats.
    if _TEXT in names and isinstance(column, pd.Series) and column.dtype.kind in "iub":
        return column.astype(str)
    return column


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
