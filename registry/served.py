"""The model as it is served. MLflow runs this file when it loads a bundle, with only the bundle beside it.

Input: a DataFrame with a column `text`, a list or array of texts, or a Series. Output: a DataFrame, one row per text
under the same index, with a probability per label and `labels`, the list of those at or above their threshold, the
most probable first. Parameters: policy (a threshold policy), threshold (one for all labels, instead of the policy's),
top_k (at most so many labels; 0 = all).
"""

import importlib
import json
from collections.abc import Mapping
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
_BATCH_SIZE = 32
_BAD_SHOWN = 10

Floats = npt.NDArray[np.float64]


class ServedClassifier(PythonModel):
    """Probabilities and labels of texts."""

    def load_context(self, context: Any) -> None:
        """Read the classifier and its description from the bundle."""
        self.serving = json.loads(Path(context.artifacts["serving"]).read_text(encoding="utf-8"))
        # The bundle's code has a package name of its own: `trainer` may be another version of it here.
        package = self.serving["package"]
        self._calibration = importlib.import_module(f"{package}.core.calibration")
        saving = importlib.import_module(f"{package}.model.saving")
        self.model, self.tokenizer, self.label_names = saving.load(Path(context.artifacts["classifier"]))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a row per text, as the module's description says. Raises MlflowException for bad input."""
        # DataFrame is the one hint that keeps MLflow from checking, and refusing, the other forms of input.
        texts, index = _texts(model_input)
        params = params or {}
        thresholds = self._thresholds(params)
        probabilities = self.probabilities(texts)
        table = pd.DataFrame(probabilities, columns=list(self.label_names), index=index)
        table[_LABELS] = pd.Series(self._chosen(probabilities, thresholds, params), index=index, dtype=object)
        return table

    def probabilities(self, texts: list[str]) -> Floats:
        """(n, k): sigmoid(logits / temperature), with the logits in float32."""
        found: Floats = self._calibration.apply_temperature(self._logits(texts), self.serving["temperature"])
        return found

    def _logits(self, texts: list[str]) -> npt.NDArray[np.float32]:
        logits = np.zeros((len(texts), len(self.label_names)), dtype=np.float32)
        if not texts:
            return logits
        pieces = self.tokenizer(
            texts, truncation=True, max_length=self.serving["max_length"], return_token_type_ids=False
        )["input_ids"]
        # Texts of like length stand together, so that a batch holds little padding.
        order = np.argsort([len(ids) for ids in pieces], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH_SIZE):
                rows = order[start : start + _BATCH_SIZE]
                batch = self.tokenizer.pad({"input_ids": [pieces[row] for row in rows]}, return_tensors="pt")
                batch = batch.to(self.device)
                logits[rows] = self.model(batch["input_ids"], batch["attention_mask"]).cpu().numpy()
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

    def _chosen(self, probabilities: Floats, thresholds: Floats, params: Mapping[str, Any]) -> list[list[str]]:
        top_k = params.get("top_k") or 0
        if top_k < 0:
            raise _bad(f"top_k must be 0 (all) or more, but got {top_k=}.")
        chosen = []
        for row in probabilities:
            best = [label for label in np.argsort(-row, kind="stable") if row[label] >= thresholds[label]]
            chosen.append([self.label_names[label] for label in best[: top_k or None]])
        return chosen


def _texts(model_input: Any) -> tuple[list[str], pd.Index]:
    if isinstance(model_input, pd.DataFrame):
        if _TEXT not in model_input.columns:
            raise _bad(f"input must have a column {_TEXT!r}, but got columns={list(model_input.columns)!r}.")
        model_input = model_input[_TEXT]
    if isinstance(model_input, str):
        model_input = [model_input]
    if not isinstance(model_input, pd.Series | np.ndarray | list | tuple):
        kind = type(model_input).__name__
        raise _bad(f"input must be a DataFrame with a column {_TEXT!r}, a Series or a list of texts, but got {kind=}.")
    index = model_input.index if isinstance(model_input, pd.Series) else pd.RangeIndex(len(model_input))
    texts = list(model_input)
    bad = {row: value for row, value in enumerate(texts) if not isinstance(value, str)}
    if bad:
        shown = ", ".join(f"row {row}: {value!r}" for row, value in list(bad.items())[:_BAD_SHOWN])
        raise _bad(f"every text must be a string, but got {len(bad)} that are not ({shown}). Leave these rows out.")
    return texts, index


def _bad(message: str) -> MlflowException:
    # MLflow's own class: its server answers 400 with the message, and a caller has no other class of ours to catch.
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


set_model(ServedClassifier())
