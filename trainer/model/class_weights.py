"""Frequencies and weights of labels, from the train split. n examples, k labels; all arrays are numpy."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.core.errors import DataError, SettingsError, nearest, shorten
from trainer.core.input_files import read_json, show_path
from trainer.core.settings import quote
from trainer.model.config import LossConfig

__all__ = ["check_file", "class_weights", "label_frequencies"]

Labels = npt.NDArray[np.float32]
Observed = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]


def label_frequencies(labels: Labels, observed: Observed, label_names: Sequence[str]) -> Weights:
    """Return (k,): the fraction of positives among the examples where a label was observed, in (0, 1].

    labels: (n, k) in [0, 1]; soft labels count by their value. observed: (n, k).
    Raises DataError for labels without any positive: a model could not learn them.
    """
    positives, seen = _counts(labels, observed, label_names)
    return positives / seen


def class_weights(config: LossConfig, labels: Labels, observed: Observed, label_names: Sequence[str]) -> Weights:
    """Return the positive weights (k,) of `config.class_weights`.

    Label c has n_c positives among N_c observed examples.
    none: 1. balanced: N_c / (k n_c), as scikit-learn's "balanced".
    effective_number: (1 - beta) / (1 - beta^n_c), scaled to mean 1 (Cui et al. 2019, https://arxiv.org/abs/1901.05555).
    A path: the weights in the file.
    Raises SettingsError for a file that does not fit the labels, DataError for labels without positives.
    """
    if config.class_weights == "none":
        return np.ones(len(label_names))
    if config.class_weights.endswith(".json"):
        return _read(Path(config.class_weights), label_names)
    positives, seen = _counts(labels, observed, label_names)
    if config.class_weights == "balanced":
        return seen / (len(label_names) * positives)
    return _effective_number(positives, config.effective_number_beta)


def check_file(config: LossConfig) -> None:
    """Raise SettingsError when `config.class_weights` names a file that cannot be read, before any data are."""
    if config.class_weights.endswith(".json"):
        _read_object(Path(config.class_weights))


def _counts(labels: Labels, observed: Observed, label_names: Sequence[str]) -> tuple[Weights, Weights]:
    positives = np.where(observed, labels, 0).sum(axis=0, dtype=np.float64)  # a float32 sum of soft labels would round
    empty = [name for name, count in zip(label_names, positives, strict=True) if count <= 0]
    if empty:
        raise DataError(
            f"Every label must have a positive train example, got none for {shorten(', '.join(empty))}. "
            "Leave these labels out, or add examples."
        )
    return positives, observed.sum(axis=0, dtype=np.float64)


def _effective_number(positives: Weights, beta: float) -> Weights:
    if beta == 0:  # the limit; log(0) raises
        return np.ones_like(positives)
    # expm1 keeps the precision that 1 - beta ** n loses when beta is close to 1.
    weights = (1 - beta) / -np.expm1(positives * math.log(beta))
    return np.asarray(weights / weights.mean())


def _read(path: Path, label_names: Sequence[str]) -> Weights:
    content = _read_object(path)
    _check_names(content, path, label_names)
    return np.array([_weight(name, content[name], path) for name in label_names])


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise SettingsError(f"`class_weights` must be a readable JSON file, got {show_path(path)}: {error}.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"The `class_weights` file {show_path(path)} must contain one object {{label: weight}}.")
    return content


def _check_names(content: dict[str, Any], path: Path, label_names: Sequence[str]) -> None:
    for name in content:
        if name not in label_names:
            raise SettingsError(
                f"The `class_weights` file {shorten(path)} must contain labels of the data set only, got {quote(name)}."
                f"{nearest(name, label_names)}"
            )
    missing = [name for name in label_names if name not in content]
    if missing:
        raise SettingsError(
            f"The `class_weights` file {shorten(path)} must have a weight for every label, got none for "
            f"{shorten(', '.join(missing))}."
        )


def _weight(name: str, value: Any, path: Path) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)  # bool is an int
    if not (number and 0 < value < math.inf):
        shown = shorten(json.dumps(value))
        raise SettingsError(f"The weight of {name} in {shorten(path)} must be a positive number, got {shown}.")
    return float(value)
