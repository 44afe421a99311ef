"""Saves trained classifiers as one MLflow model: weights, tokenizers, calibration, thresholds, and code to run them.

Saved from code, without pickle: it loads with MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from trainer.core import artifacts
from trainer.core.errors import ModelError
from trainer.core.scratch import scratch_folder, temporary_files_in
from trainer.model import saving
from trainer.model.optimizations import quantization
from trainer.serving.runtime import MODEL_CODE, SERVED_PACKAGES, copy_runtime
from trainer.serving.scoring import SERVING, Member

with warnings.catch_warnings():
    # MLflow warns about type hints of its own when this is first imported.
    warnings.simplefilter("ignore", UserWarning)
    import mlflow.pyfunc

__all__ = ["check_label_names", "save_model", "served_requirements"]

_CONDA_FILE = Path(__file__).resolve().parents[2] / "conda.yaml"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==\S+")
_EXAMPLE = (artifacts.EXAMPLE_TEXT, "I can't believe they cancelled it.")


def save_model(
    path: Path,
    members: Sequence[Member],
    *,
    thresholds: Mapping[str, npt.NDArray[np.float64]],
    default_policy: str,
    seen_texts: Path | None = None,
) -> None:
    """Save the members as one MLflow model in `path`, which must not exist or be empty.

    A probability of the model is the mean of those of its members, which must have the same labels. thresholds:
    threshold policy → (k,) in [0, 1], on these probabilities. seen_texts: file with digests of the texts of train and
    dev (`trainer.data.seen_texts`); `evaluate` reads it, the model does not.
    Input and output: `trainer.serving.pyfunc_model`.
    Weights become hard links to those of the members where the file system has them.
    Raises ModelError when the parts do not fit together.
    """
    label_names = _common_label_names(members)
    check_label_names(label_names)
    _check(label_names, thresholds, default_policy)
    names = [_member_name(number) for number in range(len(members))]
    with scratch_folder() as folder:
        package = copy_runtime(folder)
        serving = {
            "package": package.name,
            "members": [
                {"folder": name, **asdict(member.calibration), "max_length": member.max_length}
                for name, member in zip(names, members, strict=True)
            ],
            "thresholds": {policy: [float(value) for value in values] for policy, values in thresholds.items()},
            "default_policy": default_policy,
        }
        description = folder / SERVING
        description.write_text(json.dumps(serving, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        sources = {name: _named(name, member.classifier, folder) for name, member in zip(names, members, strict=True)}
        # MLflow copies the weights through a temporary folder, which a killed process would leave.
        with warnings.catch_warnings(), temporary_files_in(folder):
            # MLflow compares columns with a range when it writes the example, which pandas warns of.
            warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
            mlflow.pyfunc.save_model(
                path=str(path),
                python_model=str(MODEL_CODE),
                artifacts={name: str(source) for name, source in sources.items()}
                | {"serving": str(description)}
                | ({"seen_texts": str(seen_texts)} if seen_texts else {}),
                # load_model can override only keys that are given here.
                model_config={"precision": quantization.PRECISIONS[0]},
                code_paths=[str(package)],
                pip_requirements=served_requirements(_CONDA_FILE),  # else MLflow loads the model to infer them
                signature=_signature(label_names, default_policy),
                input_example=pd.DataFrame({"text": _EXAMPLE}),
            )
    for name, member in zip(names, members, strict=True):
        _link_weights(member.classifier, path / "artifacts" / name)  # MLflow has copied them


def served_requirements(conda_file: Path) -> list[str]:
    """Return `name==version` of every served package, as `conda_file` pins it. Raises ModelError without a pin."""
    try:
        content = yaml.safe_load(conda_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"Cannot read the versions of the model's packages from {conda_file} ({error}).") from error
    lines = [line for entry in content["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    pins = {match[1].lower(): match[0] for line in lines if (match := _PIN.match(line))}
    missing = [name for name in SERVED_PACKAGES if name.lower() not in pins]
    if missing:
        raise ModelError(f"{conda_file} must pin all packages of a served model, got no pin for {', '.join(missing)}.")
    return [pins[name.lower()] for name in SERVED_PACKAGES]


def check_label_names(label_names: Sequence[str]) -> None:
    """Raise ModelError when a label has no name, or the name of another column of the served model."""
    if not all(label_names):
        raise ModelError("A label of a served model must have a name, got an empty one. Rename it.")
    taken = sorted({"labels", "text"}.intersection(label_names))
    if taken:
        raise ModelError(
            f"A label of a served model must not be called `labels` or `text`, got {', '.join(taken)}. Rename it."
        )


def _common_label_names(members: Sequence[Member]) -> tuple[str, ...]:
    if not members:
        raise ModelError("A served model must have at least one member, got none.")
    names = [_label_names(member.classifier) for member in members]
    if any(other != names[0] for other in names):
        raise ModelError("The members of a served model must have the same labels in the same order.")
    return names[0]


def _label_names(classifier: Path) -> tuple[str, ...]:
    path = classifier / saving.DESCRIPTION
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))["label_names"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"Cannot read a saved classifier from {path} ({error}).") from error


def _check(label_names: Sequence[str], thresholds: Mapping[str, Any], default_policy: str) -> None:
    if default_policy not in thresholds:
        raise ModelError(f"`default_policy` must be one of {', '.join(thresholds)}, got {default_policy}.")
    for policy, values in thresholds.items():
        if np.shape(values) != (len(label_names),) or not all(0 <= value <= 1 for value in values):
            raise ModelError(
                f"`thresholds` must have {len(label_names)} numbers in [0, 1], one per label, got {list(values)} "
                f"for policy {policy}."
            )


def _signature(label_names: Sequence[str], default_policy: str) -> ModelSignature:
    # Without input columns: a schema with `text` refuses lists, one without names takes whichever column is first.
    outputs: list[Any] = [*(ColSpec("double", name) for name in label_names), ColSpec(Array("string"), "labels")]
    params = [
        ParamSpec("policy", "string", default_policy),
        ParamSpec("threshold", "double", None),  # null: the thresholds of the policy
        ParamSpec("top_k", "long", 0),
        ParamSpec("return_probabilities", "boolean", True),
    ]
    return ModelSignature(outputs=Schema(outputs), params=ParamSchema(params))


def _member_name(number: int) -> str:
    return "classifier" if number == 0 else f"classifier_{number + 1}"


def _named(name: str, classifier: Path, folder: Path) -> Path:
    """Return a folder called `name` with the classifier: MLflow names an artifact after its source."""
    if classifier.name == name:
        return classifier
    return shutil.copytree(classifier, folder / name, copy_function=_link_or_copy)


def _link_weights(source: Path, copy: Path) -> None:
    for weights in source.rglob("*.safetensors"):
        twin = copy / weights.relative_to(source)
        twin.unlink()
        _link_or_copy(weights, twin)


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
