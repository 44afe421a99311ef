"""Make the virtual environment of `make setup`. Standard library only: nothing is installed when it starts.

Usage: python .ci/environment.py VENV
       python .ci/environment.py --check     exit status 0 when the running Python is a supported version
"""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["check_python", "enable_stand_in", "install_stand_in", "main", "needs_cpu_torch", "read_pins"]

_CI = Path(__file__).resolve().parent
_CONDA_YAML = _CI.parent / "conda.yaml"
_SUPPORTED = ((3, 11), (3, 12), (3, 13))
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_PIN = re.compile(r"\s+- (?P<pin>[A-Za-z0-9_.-]+(\[\w+\])?==[A-Za-z0-9_.+!-]+)\s*(#.*)?")

# Real conda, on PATH or named by the user, stays in charge.
_ON_ACTIVATE = """
# For `mlflow run` on a machine without conda; see .ci/conda-stand-in
if [ -z "${CONDA_EXE:-}${MLFLOW_CONDA_HOME:-}" ] && ! command -v conda >/dev/null 2>&1 ; then
    MLFLOW_CONDA_HOME="$VIRTUAL_ENV/share/conda-stand-in"
    export MLFLOW_CONDA_HOME
fi
"""
_ON_DEACTIVATE = """
    if [ "${MLFLOW_CONDA_HOME:-}" = "${VIRTUAL_ENV:-}/share/conda-stand-in" ] ; then
        unset MLFLOW_CONDA_HOME
    fi"""


def read_pins(text: str) -> list[str]:
    """Return the `name==version` lines below `- pip:` in the text of conda.yaml, in order.

    Raises SystemExit on any other line there, which pip would not install.
    """
    _, found, below = text.partition("  - pip:\n")
    lines = [line for line in below.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    matches = [(line, _PIN.fullmatch(line)) for line in lines]
    wrong = [line for line, match in matches if match is None]
    if wrong or not found or not matches:
        sys.exit(
            "conda.yaml must end in `  - pip:` and lines like `      - name==version`, "
            f"got {', '.join(wrong[:3]) or 'none'}."
        )
    return [match["pin"] for _, match in matches if match]


def install_stand_in(venv: Path, conda_yaml: Path) -> None:
    """Copy the conda stand-in into `venv`, under the name MLflow gives the environment of `conda_yaml`.

    The name, "mlflow-" and the SHA-1 of the file, is MLflow's own (mlflow.utils.conda, 3.17).
    """
    home = venv / "share" / "conda-stand-in"
    shutil.copytree(_CI / "conda-stand-in", home, dirs_exist_ok=True)
    digest = hashlib.sha1(conda_yaml.read_bytes(), usedforsecurity=False).hexdigest()
    (home / "name").write_text(f"mlflow-{digest}\n")


def enable_stand_in(activate: str) -> str:
    """Return the text of a venv's `activate` script that also sets and unsets MLFLOW_CONDA_HOME.

    A text that already does so comes back unchanged.
    """
    if _ON_ACTIVATE in activate:
        return activate
    head, found, tail = activate.partition("deactivate () {")
    if not found:
        sys.exit(
            "Cannot change bin/activate: it does not define `deactivate () {`. Make .venv with the venv of CPython."
        )
    return head + found + _ON_DEACTIVATE + tail + _ON_ACTIVATE


def check_python() -> None:
    """Raise SystemExit unless the running Python is a version that every pin installs on."""
    if sys.version_info[:2] not in _SUPPORTED:
        names = ", ".join(f"{major}.{minor}" for major, minor in _SUPPORTED)
        sys.exit(
            f"make setup needs Python {names}, got {sys.executable}, which is {sys.version.split()[0]}. "
            "Install one, or give its path: make setup PYTHON=/path/to/python3"
        )


def needs_cpu_torch() -> bool:
    """Return whether torch's CPU build (200 MB instead of 3 GB) is to be tried: on Linux without an NVIDIA GPU.

    PyPI has the CUDA build only for Linux; for macOS it has the CPU build.
    """
    # WSL has the command and no such file; a container may have the file and no such command.
    has_gpu = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    return sys.platform == "linux" and not has_gpu


def main(venv: Path) -> None:
    """Make or update `venv`: first the pins of conda.yaml, then the stand-in, whose `name` file marks success."""
    check_python()
    pins = read_pins(_CONDA_YAML.read_text())
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip: list[Path | str] = [venv / "bin" / "python", "-m", "pip", "install"]
    print(f"Installing {len(pins)} pinned packages and what they need (some minutes) ...", flush=True)
    if needs_cpu_torch() and not _install_cpu_torch(pip, pins):
        print(f"{_CPU_INDEX} has no CPU build of torch for this machine; installing the build of PyPI.", flush=True)
    subprocess.run([*pip, *pins], check=True)
    script = venv / "bin" / "activate"
    script.write_text(enable_stand_in(script.read_text()))
    install_stand_in(venv, _CONDA_YAML)


def _install_cpu_torch(pip: list[Path | str], pins: list[str]) -> bool:
    """Install torch from PyTorch's own index without its dependencies, which come with the other pins."""
    (torch,) = [pin for pin in pins if pin.startswith("torch==")]
    # One retry instead of five: without a way to the index every setup would wait for them.
    options = ["--quiet", "--no-deps", "--retries", "1", "--timeout", "10", "--extra-index-url", _CPU_INDEX]
    tried = subprocess.run([*pip, *options, f"{torch}+cpu"], check=False, capture_output=True)
    return tried.returncode == 0


if __name__ == "__main__":
    try:
        if sys.argv[1] == "--check":
            check_python()
            sys.exit()
        main(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"Cannot install the environment: {error}. The message of the command is above.")
