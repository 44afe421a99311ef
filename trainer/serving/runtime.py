"""The code that a served model carries: a fixed list of modules, copied as a package named after its content.

Models of different versions then run in one process, also with the `trainer` that is installed there.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from trainer.core.scratch import scratch_folder

__all__ = [
    "LOADER",
    "MODEL_CODE",
    "MODULES",
    "SERVED_PACKAGES",
    "ModelCode",
    "code_digest",
    "copy_runtime",
    "foreign_requirements",
    "is_known_code",
    "own_digest",
    "read_code",
]

MODULES = (
    "core.errors",
    "core.input_files",
    "core.presets",
    "core.redaction",
    "core.settings",
    "data.batching",
    "data.tokenization",
    "evaluation.arrays",
    "evaluation.calibration",
    "model.classifier",
    "model.config",
    "model.deberta_attention",
    "model.encoder",
    "model.heads.head",
    "model.location",
    "model.losses.table",
    "model.optimizations.dropout",
    "model.optimizations.quantization",
    "model.pooling",
    "model.saving",
    "model.tokenizer",
    "serving.scoring",
)
"""Modules of `trainer` that `serving.scoring` imports, directly or not; tests/project/test_imports.py compares."""

SERVED_PACKAGES = ("mlflow", "torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "PyYAML")
"""Packages that a served model imports; conda.yaml pins their versions."""

MODEL_CODE = Path(__file__).with_name("pyfunc_model.py")
"""The module that MLflow runs when it loads the model."""

# What reading MLmodel and serving.json raises, whatever they contain.
_DAMAGED = (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, yaml.YAMLError)
LOADER = "mlflow.pyfunc.loaders.code_model"
"""The module with which MLflow loads a model of this project."""

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==[A-Za-z0-9.!+_-]+")
_TRAINER = Path(__file__).resolve().parents[1]
_DESCRIPTIONS = frozenset(
    {
        *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"),
        *("input_example.json", "serving_input_example.json"),
    }
)
_ARTIFACT_SUFFIXES = frozenset({".json", ".safetensors"})
_EARLIER_DIGESTS: Mapping[str, str] = {
    "e84bd600fc86ba0c9ed29ba36ed235c92b1e56269db5165141a195981a0c54eb": "8e3e5c1",
    "9b794e22719e84959821bce2f2d782a8b8d7995a7b2335c751ed9325780b1f27": "e224c38",
}
"""`code_digest` of models that earlier versions saved → their commit.

Before the code of a released version changes, its digest (`code.digest` of `trainer.serving.check`) goes here; else the
models of that version count as foreign code.
"""


@dataclass(frozen=True, kw_only=True)
class ModelCode:
    """What a model folder could make Python run."""

    digest: str
    """`code_digest`; empty for a folder that MLflow could not load either."""
    is_known: bool
    """True for the code of this version or of an earlier one of this project."""
    loader: str
    """Module with which MLflow would load the model; empty where MLmodel names none."""


def read_code(model: Path) -> ModelCode:
    """Return the facts about the code in a model folder, without running it."""
    try:
        loading, digest = _loading(model), code_digest(model)
    except _DAMAGED:
        return ModelCode(digest="", is_known=False, loader="")
    with scratch_folder() as folder:
        own = own_digest(folder)
    return ModelCode(digest=digest, is_known=is_known_code(digest, own), loader=str(loading["loader_module"] or ""))


def copy_runtime(folder: Path) -> Path:
    """Copy MODULES into `folder` as a package and return its path. Only the name in their imports changes."""
    sources = {name: _file_of(name).read_text(encoding="utf-8") for name in MODULES}
    # Python source contains no null byte, so the digest depends on where a file ends.
    digest = hashlib.sha256("\0".join([*sources, *sources.values()]).encode()).hexdigest()
    package = folder / f"emotions_{digest[:12]}"
    for name, source in sources.items():
        target = package / _file_of(name).relative_to(_TRAINER)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.replace("from trainer.", f"from {package.name}."), encoding="utf-8")
    for module in list(package.rglob("*.py")):
        for parent in [module.parent, *module.parent.parents]:
            if parent.is_relative_to(package):
                (parent / "__init__.py").touch()
    return package


def code_digest(model: Path) -> str:
    """Return the sha256 of all that a model folder could make Python run.

    That is every file but weights, tokenizer and settings among the artifacts and MLflow's descriptions, and the way
    of loading that MLmodel and serving.json describe. `__pycache__` is left out, since Python writes it into any folder
    that it loads: set PYTHONPYCACHEPREFIX to an empty folder for a process that runs the code; Python then ignores it.
    """
    files = {
        path.relative_to(model).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in model.rglob("*")
        if path.is_file() and not _is_data(PurePosixPath(path.relative_to(model).as_posix()))
    }
    return _digest(files, _loading(model))


def own_digest(folder: Path) -> str:
    """Return `code_digest` of a model that this version saves. folder: an empty one to write the code into."""
    package = copy_runtime(folder / "code")
    (folder / MODEL_CODE.name).write_bytes(MODEL_CODE.read_bytes())
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return _digest(files, _standard_loading(MODEL_CODE.name, package.name))


def is_known_code(digest: str, own: str) -> bool:
    """Return True when a `code_digest` is that of this version or of an earlier one of this project."""
    return digest == own or digest in _EARLIER_DIGESTS


def foreign_requirements(model: Path) -> list[str]:
    """Return the lines of a model's requirements.txt that are not a served package with an exact version."""
    lines = (model / "requirements.txt").read_text(encoding="utf-8").splitlines()
    served = {name.lower() for name in SERVED_PACKAGES}
    return [
        line for line in lines if not (match := _PIN.fullmatch(line.strip())) or match["name"].lower() not in served
    ]


def _file_of(module: str) -> Path:
    path = _TRAINER.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_data(path: PurePosixPath) -> bool:
    if "__pycache__" in path.parts:
        return True
    if path.parts[0] == "artifacts":
        return path.suffix in _ARTIFACT_SUFFIXES
    return path.as_posix() in _DESCRIPTIONS


def _standard_loading(model_code: str, package: str) -> dict[str, Any]:
    return {
        "flavors": ["python_function"],
        "loader_module": LOADER,
        "model_code": model_code,
        "code": "code",
        "pickles": [],
        "package": package,
    }


def _loading(model: Path) -> dict[str, Any]:
    flavors = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))["flavors"]
    pyfunc = flavors["python_function"]
    serving = model / "artifacts" / "serving.json"
    return {
        "flavors": sorted(flavors),
        "loader_module": pyfunc.get("loader_module"),
        # The name alone: the folder is one of the machine that saved the model.
        "model_code": PurePosixPath(str(pyfunc.get("model_code_path"))).name,
        "code": pyfunc.get("code"),
        "pickles": sorted(set(pyfunc) & {"python_model", "data"}),  # keys by which MLflow would load a pickle
        "package": json.loads(serving.read_text(encoding="utf-8"))["package"] if serving.is_file() else None,
    }


def _digest(files: Mapping[str, str], loading: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([files, loading], sort_keys=True).encode()).hexdigest()
