"""What `make setup` makes: pins read from conda.yaml, an activate script, the stand-in for conda."""

import shutil
import subprocess
import sys

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
