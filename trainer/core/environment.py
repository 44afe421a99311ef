"""What a run ran on: versions, machine, commit, command. No secret is ever part of it."""

import functools
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "GitState",
    "asked_threads",
    "available_cores",
    "child_environment",
    "describe",
    "git_state",
    "redact",
    "redact_command",
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

# An allow-list: the environment is where secrets live, so nothing is taken from it but these.
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

_ROOT = Path(__file__).resolve().parents[2]
_USER_PART = re.compile(r"(?<=://)[^/\s'\"]*@")
_SECRET_FLAG = re.compile(
    r"--?[\w.-]*(?:token(?!i|s)|secret|passw|credential|(?:api|access)[_-]?key)[\w.-]*", re.IGNORECASE
)
_MASK = "***"


@dataclass(frozen=True)
class GitState:
    """The commit that holds this code, and whether files differ from it."""

    commit: str
    dirty: bool


def redact(text: str) -> str:
    """`text` without the `user:password@` of any address in it."""
    return _USER_PART.sub("", text)


def redact_command(words: Sequence[str]) -> str:
    """One shell line of `words`; values of flags named like a secret, and passwords in addresses, are masked."""
    shown = []
    hide_next = False
    for word in words:
        flag, equals, _ = word.partition("=")
        is_secret = _SECRET_FLAG.fullmatch(flag) is not None
        if hide_next:
            shown.append(_MASK)
        else:
            shown.append(f"{flag}={_MASK}" if is_secret and equals else redact(word))
        hide_next = is_secret and not equals and not hide_next
    return shlex.join(shown)


@functools.cache
def git_state() -> GitState | None:
    """The commit of this code and its dirty flag; None without git or outside a repository.

    A copy of this package that merely lies inside somebody's repository (say in an ignored `.venv`) has none.
    New files that git does not ignore count as dirty: code may import them.
    """
    here = Path(__file__).resolve()
    commit = _git(here.parent, "rev-parse", "HEAD")
    if commit is None or _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    status = _git(here.parent, "status", "--porcelain")
    return None if status is None else GitState(commit.strip(), bool(status.strip()))


def describe() -> dict[str, object]:
    """The content of `environment.json`. Absent facts are absent keys; memory in bytes."""
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
        "command": redact_command(sys.orig_argv),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    return {name: value for name, value in facts.items() if value is not None}


def child_environment() -> dict[str, str]:
    """Environment for a Python process of this project: it finds our packages anywhere, and writes into no open run."""
    paths = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"} | {"PYTHONPATH": paths}


def asked_threads() -> int | None:
    """Threads that OMP_NUM_THREADS asks for, on the outermost level; None where it is not set, or no number above 0."""
    number = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(number) or None if number.isdigit() else None


def available_cores() -> list[int]:
    """Numbers of the processor cores that this process may use; fewer than the machine has where it is confined."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _git(folder: Path, *arguments: str) -> str | None:
    # Without the optional locks a status in one process never disturbs a commit in another.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None


def _cpu_model() -> str | None:
    table = Path("/proc/cpuinfo")
    if table.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", table.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine() or None


def _gpu_names() -> list[str] | None:
    # Only asked of a torch that the program has loaded already: importing it here would cost seconds.
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
