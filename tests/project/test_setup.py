"""What `make setup` makes: pins read from conda.yaml, an activate script, the stand-in for conda."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow.utils import conda as mlflow_conda

_SHELLS = [name for name in ("bash", "dash", "zsh") if shutil.which(name)]
_SHOW = 'echo "${MLFLOW_CONDA_HOME:-unset}"'


@pytest.fixture(scope="module")
def venv(environment, root, tmp_path_factory):
    """A virtual environment made as `make setup` makes it, without the packages."""
    folder = tmp_path_factory.mktemp("project") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    script = folder / "bin" / "activate"
    script.write_text(environment.enable_stand_in(script.read_text()))
    environment.install_stand_in(folder, root / "conda.yaml")
    return folder


def run_shell(shell, script, **extra):
    words = {"PATH": "/usr/bin:/bin"} | extra
    done = subprocess.run([shell, "-c", f"set -eu\n{script}"], env=words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_pins_are_read_as_yaml_reads_them(environment, root):
    text = (root / "conda.yaml").read_text()

    pins = environment.read_pins(text)

    assert pins == yaml.safe_load(text)["dependencies"][-1]["pip"]
    assert len(pins) > 10


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dependencies:\n  - pip:\n",
        "dependencies:\n  - pip:\n      - numpy>=2\n",
        "dependencies:\n  - pip:\n      - numpy==2.4.6\n      - -r more.txt\n",
        "dependencies:\n  - pip:\n      - numpy==2.4.6\n  - scipy\n",
    ],
)
def test_pins_refuse_what_they_cannot_read(environment, text):
    with pytest.raises(SystemExit, match=r"conda.yaml must end in"):
        environment.read_pins(text)


def test_at_least_bash_is_tested():
    assert "bash" in _SHELLS


@pytest.mark.parametrize("shell", _SHELLS)
def test_activation_sets_and_deactivation_unsets_the_stand_in(venv, shell):
    script = f". {venv}/bin/activate; {_SHOW}; . {venv}/bin/activate; {_SHOW}; deactivate; {_SHOW}"

    lines = run_shell(shell, script)

    assert lines == [f"{venv}/share/conda-stand-in"] * 2 + ["unset"]


@pytest.mark.parametrize("shell", _SHELLS)
@pytest.mark.parametrize(
    ("extra", "shown"), [({"CONDA_EXE": "conda"}, "unset"), ({"MLFLOW_CONDA_HOME": "mine"}, "mine")]
)
def test_activation_leaves_a_named_conda_in_charge(venv, shell, extra, shown):
    lines = run_shell(shell, f". {venv}/bin/activate; {_SHOW}; deactivate; {_SHOW}", **extra)

    assert lines == [shown, shown]


@pytest.mark.parametrize("shell", _SHELLS)
def test_activation_leaves_a_conda_on_the_path_in_charge(venv, shell, tmp_path):
    (tmp_path / "conda").write_text("#!/bin/sh\n")
    (tmp_path / "conda").chmod(0o755)

    lines = run_shell(shell, f". {venv}/bin/activate; {_SHOW}", PATH=f"{tmp_path}:/usr/bin:/bin")

    assert lines == ["unset"]


def test_activate_script_is_changed_once(environment, venv):
    text = (venv / "bin" / "activate").read_text()

    assert environment.enable_stand_in(text) == text
    assert text.count("conda-stand-in") == 3  # a comment, set, unset


def test_mlflow_finds_the_environment_and_its_activation(venv, root, monkeypatch):
    monkeypatch.setenv("MLFLOW_CONDA_HOME", f"{venv}/share/conda-stand-in")

    commands = mlflow_conda.get_or_create_conda_env(str(root / "conda.yaml")).get_activate_command()
    done = subprocess.run(
        ["bash", "-c", " && ".join([*commands, "command -v python"])], capture_output=True, text=True, check=False
    )

    assert done.stdout == f"{venv}/bin/python\n"
    assert done.stderr.splitlines() == [
        f"conda stand-in: environment already provided: {venv} is used instead of a conda environment"
    ]


def test_another_conda_yaml_is_refused_at_activation(venv, root, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_CONDA_HOME", f"{venv}/share/conda-stand-in")
    changed = tmp_path / "conda.yaml"
    changed.write_text((root / "conda.yaml").read_text() + "      - more==1.0\n")

    commands = mlflow_conda.get_or_create_conda_env(str(changed)).get_activate_command()
    done = subprocess.run(
        ["bash", "-c", " && ".join([*commands, "echo started"])], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "Run `make setup`" in done.stderr


def test_stand_in_refuses_to_pass_for_conda(venv):
    done = subprocess.run(
        [venv / "share/conda-stand-in/bin/conda", "install", "numpy"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert "conda must be installed for 'conda install numpy'" in done.stderr


@pytest.mark.parametrize(
    ("version", "accepted"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_supported_pythons_are_those_of_pyproject(environment, root, monkeypatch, version, accepted):
    requires = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (root / "pyproject.toml").read_text())
    assert (int(requires[1]) <= version[1] < int(requires[2])) is accepted
    monkeypatch.setattr(environment.sys, "version_info", (*version, 0, "final", 0))

    if accepted:
        environment.check_python()
    else:
        with pytest.raises(SystemExit, match=r"3\.11, 3\.12, 3\.13"):
            environment.check_python()


def test_make_takes_the_first_supported_python_that_starts(root, tmp_path):
    # pyenv puts a python3.11 on PATH that does not start while another version is chosen.
    (tmp_path / "python3.11").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.12").symlink_to(sys.executable)
    (tmp_path / "python3.11").chmod(0o755)
    words = ["make", "-n", "-B", "setup"]

    done = subprocess.run(
        words, cwd=root, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )

    assert "python3.12 .ci/environment.py .venv" in done.stdout


@pytest.mark.parametrize(
    ("platform", "command", "expected"), [("linux", None, True), ("linux", "x", False), ("darwin", None, False)]
)
def test_the_cpu_build_of_torch_is_for_linux_without_a_gpu(environment, monkeypatch, platform, command, expected):
    monkeypatch.setattr(environment.sys, "platform", platform)
    monkeypatch.setattr(environment.shutil, "which", lambda name: command)
    monkeypatch.setattr(environment.Path, "exists", lambda path: False)

    assert environment.needs_cpu_torch() is expected


@pytest.mark.slow
@pytest.mark.parametrize("minor", [12, 13])  # the environment of the tests has 3.11
def test_every_pin_has_a_release_for_the_python(environment, root, minor):
    python = _interpreter(minor)
    if python is None:
        pytest.skip(f"needs Python 3.{minor}")
    pins = environment.read_pins((root / "conda.yaml").read_text())

    words = ["-m", "pip", "--python", python, "install", "--dry-run", "--ignore-installed", "--quiet", *pins]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)

    if "Failed to establish a new connection" in done.stderr or "Temporary failure in name resolution" in done.stderr:
        pytest.skip("needs the package index")
    assert done.returncode == 0, done.stderr[-2000:]


def _interpreter(minor):
    """A Python 3.minor that starts: on PATH, or installed by pyenv."""
    candidates = [f"python3.{minor}", *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"))]
    for name in candidates:
        path = shutil.which(name)
        if path and subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0:
            return path
    return None
