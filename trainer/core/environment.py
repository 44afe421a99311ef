"""Describes what a run ran on: versions, machine, commit, command. Secrets are left out."""

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainer.core.errors import SettingsError
from trainer.core.redaction import redact_command

__all__ = [
    "GitState",
    "available_cores",
    "check_launcher_variables",
    "child_environment",
    "code_digest",
    "describe",
    "git_state",
    "in_temporary_clone",
    "requested_threads",
]

PACKAGES = (
    "accelerate",
    "datasets",
    "jinja2",
    "matplotlib",
    "mlflow",
    "numpy",
    "nvidia-ml-py",
    "optuna",
    "pandas",
    "psutil",
    "pyarrow",
    "rich",
    "safetensors",
    "scikit-learn",
    "scipy",
    "sentencepiece",
    "tokenizers",
    "torch",
    "transformers",
    "tyro",
)

# An allow-list: other variables may be secrets.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HF_HUB_OFFLINE",
    "LOCAL_RANK",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "PYTHONHASHSEED",
    "RANK",
    "SLURM_JOB_ID",
    "TOKENIZERS_PARALLELISM",
    "TORCH_NUM_THREADS",
    "WORLD_SIZE",
)

_OF_A_PROCESS = ("LOCAL_RANK", "RANK", "WORLD_SIZE")
_OF_A_LAUNCHER = (*_OF_A_PROCESS, "MASTER_ADDR", "MASTER_PORT")

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES_OF_RESULTS = ("data", "evaluation", "fit", "model")
"""Packages of `trainer` whose code decides the predictions of a run."""


@dataclass(frozen=True)
class GitState:
    """The commit of this code, and whether files differ from it."""

    commit: str
    dirty: bool


@functools.cache
def git_state() -> GitState | None:
    """Return the commit of this code and its dirty flag; None without git or outside a repository.

    A copy of this package inside another repository, such as in an ignored `.venv`, has none: MLflow would report the
    commit of that repository. New files that git does not ignore count as dirty, since code may import them.
    """
    here = Path(__file__).resolve()
    commit = _git(here.parent, "rev-parse", "HEAD")
    if commit is None or _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    status = _git(here.parent, "status", "--porcelain")
    return None if status is None else GitState(commit.strip(), bool(status.strip()))


@functools.cache
def code_digest() -> str:
    """Return the SHA-256 digest of the source files that decide the predictions of a run."""
    trainer, digest = _ROOT / "trainer", hashlib.sha256()
    for path in sorted(path for package in _PACKAGES_OF_RESULTS for path in (trainer / package).rglob("*.py")):
        digest.update(f"{path.relative_to(trainer).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def describe() -> dict[str, object]:
    """Return the content of `environment.json`. A fact that cannot be determined has no key; memory is in bytes."""
    import psutil

    git = git_state()
    facts: dict[str, object] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_available": len(available_cores()),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": _gpu_names(),
        "packages": _package_versions(),
        "git_commit": git.commit if git else None,
        "git_dirty": git.dirty if git else None,
        "code_digest": code_digest(),
        "command": redact_command(sys.orig_argv),  # sys.argv lacks `python -m MODULE`
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    return {name: value for name, value in facts.items() if value is not None}


def child_environment() -> dict[str, str]:
    """Return the environment of a child process in Python: with our packages on its path, without the open run."""
    paths = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    # With MLFLOW_RUN_ID, `mlflow.start_run` would continue that run, even with nested=True (mlflow issue 15713).
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"} | {"PYTHONPATH": paths}


def check_launcher_variables() -> None:
    """Raise SettingsError when the variables of a launcher such as torchrun are set in part.

    Accelerate would take this process for one of several and wait for the others, or fail.
    """
    given = [name for name in _OF_A_LAUNCHER if os.environ.get(name)]
    missing = [name for name in _OF_A_LAUNCHER if name not in given]
    if missing and set(given) & set(_OF_A_PROCESS):
        raise SettingsError(
            f"The variables of a launcher must be set together, but {', '.join(given)} are set without "
            f"{', '.join(missing)}. To train without a launcher: env {' '.join(f'-u {one}' for one in given)} COMMAND."
        )


def requested_threads() -> int | None:
    """Return the threads of the outermost level in OMP_NUM_THREADS; None when it is not set or not above 0."""
    number = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(number) or None if number.isdigit() else None


def available_cores() -> list[int]:
    """Return the numbers of the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS and Windows lack it
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def in_temporary_clone() -> bool:
    """Return whether the current folder is in a clone that `mlflow run GIT_URI` made for this one command."""
    temporary = Path(tempfile.gettempdir())
    if not Path.cwd().is_relative_to(temporary):
        return False
    parts = Path.cwd().relative_to(temporary).parts
    return bool(parts) and parts[0].startswith("tmp") and (temporary / parts[0] / ".git").exists()


def _git(folder: Path, *arguments: str) -> str | None:
    # With optional locks, `git status` in one process can make a commit in another fail.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # git is not installed, or does not answer
        return None
    return answer.stdout if answer.returncode == 0 else None


def _cpu_model() -> str | None:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", table.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine() or None  # on Linux the architecture, not the model


def _gpu_names() -> list[str] | None:
    # Importing torch takes seconds, so it is used only when the program has loaded it.
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


@functools.cache
def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
