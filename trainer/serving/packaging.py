"""The served model as one MLflow model folder: weights, tokenizer, calibration, thresholds, and the code to run them.

Made from code, without pickle: it loads with MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false.
"""

import ast
import hashlib
import json
import math
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

from trainer.core.errors import ModelError
from trainer.model import saving
from trainer.model.optimizations import quantization

with warnings.catch_warnings():
    # MLflow warns about type hints of its own when this is first imported.
    warnings.simplefilter("ignore", UserWarning)
    import mlflow.pyfunc

__all__ = ["SERVED_PACKAGES", "check_label_names", "save_bundle", "served_requirements"]

SERVED_PACKAGES = ("mlflow", "torch", "transformers", "safetensors", "numpy", "pandas", "PyYAML")
"""What a bundle needs to run; their versions are those of conda.yaml."""

_ROOT = Path(__file__).resolve().parents[2]
_CODE = Path(__file__).with_name("pyfunc_model.py")
_ENTRIES = (
    "trainer.evaluation.calibration",
    "trainer.data.batching",
    "trainer.data.tokenization",
    "trainer.model.optimizations.quantization",
    "trainer.model.saving",
)
_PIN = re.compile(r"([A-Za-z0-9._-]+)==\S+")
_EXAMPLE = ("so proud of you!", "I can't believe they cancelled it.")


def save_bundle(
    path: Path,
    classifier: Path,
    *,
    temperature: float,
    thresholds: Mapping[str, npt.NDArray[np.float64]],
    default_policy: str,
    max_length: int,
) -> None:
    """Write the bundle to `path`, which must not exist or be empty.

    classifier: folder of `trainer.model.saving.save`. thresholds: threshold policy → (k,) in [0, 1], on calibrated
    probabilities. max_length: pieces per text, as in training. For input and output see
    `trainer.serving.pyfunc_model`. Raises ModelError when these do not fit together.
    """
    label_names = _label_names(classifier)
    check_label_names(label_names)
    _check(label_names, temperature, thresholds, default_policy)
    with tempfile.TemporaryDirectory() as folder:
        package = _copy_code(Path(folder))
        serving = {
            "package": package.name,
            "temperature": float(temperature),
            "thresholds": {name: [float(value) for value in values] for name, values in thresholds.items()},
            "default_policy": default_policy,
            "max_length": max_length,
        }
        description = Path(folder, "serving.json")
        description.write_text(json.dumps(serving, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        with warnings.catch_warnings():
            # MLflow compares columns with a range when it writes the example, which pandas warns of.
            warnings.simplefilter("ignore", pd.errors.Pandas4Warning)
            mlflow.pyfunc.save_model(
                path=str(path),
                python_model=str(_CODE),
                artifacts={"classifier": str(classifier), "serving": str(description)},
                model_config={"precision": quantization.PRECISIONS[0]},
                code_paths=[str(package)],
                pip_requirements=served_requirements(_ROOT / "conda.yaml"),
                signature=_signature(label_names, default_policy),
                input_example=pd.DataFrame({"text": _EXAMPLE}),
            )


def served_requirements(conda_file: Path) -> list[str]:
    """Return `name==version` of every served package, as `conda_file` pins it; ModelError when one is not pinned."""
    try:
        content = yaml.safe_load(conda_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"versions of a bundle come from conda.yaml, but got {conda_file=} ({error}).") from error
    lines = [line for entry in content["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    pins = {match[1].lower(): match[0] for line in lines if (match := _PIN.match(line))}
    missing = [name for name in SERVED_PACKAGES if name.lower() not in pins]
    if missing:
        raise ModelError(f"conda.yaml must pin what a bundle runs on, but got {missing=} in {str(conda_file)!r}.")
    return [pins[name.lower()] for name in SERVED_PACKAGES]


def _label_names(classifier: Path) -> list[str]:
    path = classifier / saving.DESCRIPTION
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["label_names"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"classifier must be a folder of a saved one, but got {str(path)!r} ({error}).") from error


def _check(label_names: Sequence[str], temperature: float, thresholds: Mapping[str, Any], default_policy: str) -> None:
    if not 0 < temperature < math.inf:
        raise ModelError(f"temperature must be a positive number, but got {temperature=}.")
    if default_policy not in thresholds:
        raise ModelError(f"default_policy must be one of {', '.join(thresholds)}, but got {default_policy=}.")
    for policy, values in thresholds.items():
        if np.shape(values) != (len(label_names),) or not all(0 <= value <= 1 for value in values):
            raise ModelError(
                f"thresholds must be one number in [0, 1] per label, but got {policy=} with {values=} "
                f"for {len(label_names)} labels."
            )


def check_label_names(label_names: Sequence[str]) -> None:
    """Raise ModelError when a label has the name of another column of the served model."""
    taken = sorted({"labels", "text"}.intersection(label_names))
    if taken:
        raise ModelError(f"labels of a served model must not be named like its columns, but got {taken=}. Rename them.")


def _signature(label_names: Sequence[str], default_policy: str) -> ModelSignature:
    # Without input columns: a schema with `text` refuses lists, one without names takes whichever column is first.
    outputs: list[Any] = [*(ColSpec("double", name) for name in label_names), ColSpec(Array("string"), "labels")]
    params = [
        ParamSpec("policy", "string", default_policy),
        ParamSpec("threshold", "double", None),
        ParamSpec("top_k", "long", 0),
        ParamSpec("return_probabilities", "boolean", True),
    ]
    return ModelSignature(outputs=Schema(outputs), params=ParamSchema(params))


def _copy_code(folder: Path) -> Path:
    """Copy the modules that serving needs into `folder`, as a package named after their content.

    Bundles of different versions then run beside each other, and beside the `trainer` of the running program.
    """
    sources = {_file_of(name): _file_of(name).read_text(encoding="utf-8") for name in sorted(_closure(_ENTRIES))}
    digest = hashlib.sha256("\0".join(sources.values()).encode()).hexdigest()
    package = folder / f"emotions_{digest[:12]}"
    for file, source in sources.items():
        target = package / file.relative_to(_ROOT / "trainer")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(r"(?m)^(\s*)from trainer\b", rf"\1from {package.name}", source), encoding="utf-8")
    return package


def _closure(names: Sequence[str]) -> set[str]:
    """The modules of ours that these import, directly or not, with their packages."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and _file_of(name).is_file():
            found.add(name)
            waiting += [name.rpartition(".")[0], *_imported(_file_of(name))]
    return found


def _imported(file: Path) -> list[str]:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    ours = [node for node in nodes if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "trainer"]
    return [name for node in ours for name in (str(node.module), *(f"{node.module}.{a.name}" for a in node.names))]


def _file_of(name: str) -> Path:
    path = _ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
