"""conda.yaml is the one list of versions."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml

_OURS = ("trainer", "registry", "tuning", "tests")
# Pinned although no module of ours imports it.
_NOT_IMPORTED = {
    "boto3": "MLflow reads and writes artifacts at s3:// with it",
    "protobuf": "transformers reads SentencePiece vocabularies through it",
    "sentencepiece": "transformers reads SentencePiece vocabularies with it",
    "cleanlab": "suspected label errors",
    "cmaes": "Optuna's sampler of that name needs it",
    "optuna-dashboard": "a command that shows a running search",
    "pytest-xdist": "`make test` runs two tests at a time with it",
    "mkdocs-material": "the theme of the documentation, named in mkdocs.yml",
    "ruff": "a command of `make check`",
    "mypy": "a command of `make check`",
}


@pytest.fixture(scope="module")
def conda(root):
    return yaml.safe_load((root / "conda.yaml").read_text())


@pytest.fixture(scope="module")
def pins(conda):
    (listed,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    return {_canonical(name.partition("[")[0]): version for name, version in (pin.split("==") for pin in listed)}


@pytest.fixture(scope="module")
def tracked(root):
    """Files of the project: what git tracks or would track."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True).stdout.splitlines()
    return [root / name for name in listed if (root / name).is_file()]


def test_every_pin_is_exact(conda):
    python, pip, listed = conda["dependencies"]

    assert re.fullmatch(r"python=3\.11\.\d+", python)  # with one `=`, and exact: see the comment there
    assert pip == "pip"
    assert set(listed) == {"pip"}
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+(\[\w+\])?==\d+(\.\d+)+", pin) for pin in listed["pip"])


def test_no_package_is_pinned_twice(conda, pins):
    assert len(pins) == len(conda["dependencies"][-1]["pip"])


def test_installed_versions_equal_the_pins(pins):
    installed = {name: metadata.version(name).split("+")[0] for name in pins}  # torch says 2.13.0+cpu

    assert installed == pins


def test_no_other_file_names_another_version(pins, tracked, root):
    pin = re.compile(r"(?<![\w.-])([A-Za-z][A-Za-z0-9_.-]*)(?:\[[\w,]+\])?\s?(?:==|~=|>=)\s?(\d+(?:\.\d+)+)")
    suffixes = {".py", ".toml", ".txt", ".yaml", ".yml", ".cfg", ".md", ".sh", ""}
    candidates = [path for path in tracked if path.suffix in suffixes and path.stat().st_size < 200_000]
    found = [
        (path.relative_to(root).as_posix(), _canonical(name), version)
        for path in candidates
        if path.name != "CHANGELOG.md"  # tells of earlier versions
        for name, version in pin.findall(path.read_text(encoding="utf-8", errors="replace"))
    ]

    assert [entry for entry in found if entry[1] in pins and pins[entry[1]] != entry[2]] == []
    assert {name for file, name, _ in found if file == "conda.yaml"} == set(pins)


def test_pyproject_lists_no_dependencies(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]

    assert not {"dependencies", "optional-dependencies"} & set(project)
    assert project["requires-python"] == ">=3.11,<3.14"


def test_every_import_is_pinned_and_every_pin_has_a_use(pins, tracked, root):
    sources = [path for path in tracked if path.suffix == ".py"]
    names = {name for path in sources for name in _imported(ast.parse(path.read_text()))}
    third_party = names - set(sys.stdlib_module_names) - set(_OURS)
    providers = metadata.packages_distributions()
    local = {path.stem for path in sources}  # test modules that stand beside each other
    used = {name: {_canonical(provider) for provider in providers.get(name, ())} for name in third_party - local}

    assert len(sources) > 20
    pinned = set(pins) | _service_pins(root) | _brought_along()
    assert {name for name, distributions in used.items() if not distributions & pinned} == set()
    assert set(pins) - set().union(*used.values()) <= set(_NOT_IMPORTED)


def test_there_is_no_second_environment_file(root):
    names = ("python_env.yaml", "requirements.txt", "environment.yml", "setup.py", "setup.cfg", "uv.lock")

    assert [name for name in names if (root / name).exists()] == []


def _service_pins(root):
    lines = (root / "docker" / "requirements.txt").read_text().splitlines()
    return {_canonical(line.partition("==")[0]) for line in lines if "==" in line}


def _brought_along():
    """What the pinned MLflow and boto3 ask for; the service, which is made of them, imports it."""
    owners = ("mlflow", "mlflow-skinny", "boto3", "flask")
    asked = [one for owner in owners for one in metadata.requires(owner) or () if "extra ==" not in one]
    return {_canonical(re.match(r"[\w.-]+", one)[0]) for one in asked}


def _canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
