"""Make the virtual environment of `make setup`. Standard library only: nothing is installed when it starts.

Usage: python .ci/environment.py VENV
"""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["enable_stand_in", "install_stand_in", "main", "read_pins"]

_CI = Path(__file__).resolve().parent
_CONDA_YAML = _CI.parent / "conda.yaml"
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
            "Cannot change bin/activate: it does not define `deactivate () {`. Make .venv with Python 3.11's venv."
        )
    return head + found + _ON_DEACTIVATE + tail + _ON_ACTIVATE


def main(venv: Path) -> None:
    """Make or update `venv`: first the pins of conda.yaml, then the stand-in, whose `name` file marks success."""
    pins = read_pins(_CONDA_YAML.read_text())
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    print(f"Installing {len(pins)} pinned packages and what they need (about 2 GB, some minutes) ...", flush=True)
    subprocess.run([venv / "bin" / "python", "-m", "pip", "install", *pins], check=True)
    script = venv / "bin" / "activate"
    script.write_text(enable_stand_in(script.read_text()))
    install_stand_in(venv, _CONDA_YAML)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"Cannot install the environment: {error}. The message of the command is above.")
