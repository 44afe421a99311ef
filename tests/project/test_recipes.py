"""The recipes of CONTRIBUTING.md work: each is applied to a copy of the code, which is then tried."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from trainer.data.dataset import ROLES

_BLOCK = re.compile(r'^```(?P<kind>diff|python) title="(?P<file>[^"]+)"\n(?P<body>.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def recipes(root):
    """Heading of a recipe -> its blocks: kind, file, body."""
    text = (root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {section.splitlines()[0]: [match.groups() for match in _BLOCK.finditer(section)] for section in sections}


@pytest.fixture
def copy(root, tmp_path):
    """A copy of the code, without the starter's weights."""
    for package in ("trainer", "tuning", "registry", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "benchmarks")
        shutil.copytree(root / package, tmp_path / package, ignore=ignored)
    for file in ("MLproject", "conda.yaml", "pyproject.toml"):
        shutil.copy(root / file, tmp_path)
    return tmp_path


def apply_block(folder, kind, file, body):
    """Write a new file, or replace the lines of a diff; its old lines must occur exactly once."""
    path = folder / file
    if kind == "python":
        path.write_text(body, encoding="utf-8")
        return
    lines = body.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in kept) for kept in (" -", " +"))
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} does not contain the lines of the recipe once: {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def follow(folder, blocks):
    assert blocks
    for block in blocks:
        apply_block(folder, *block)


def run(folder, *arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_tests(folder, file, keyword):
    """Number of tests in the file that have the keyword, all of which pass."""
    printed = run(folder, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", file, "-k", keyword)
    return int(re.search(r"(\d+) passed", printed)[1])


def test_every_recipe_is_followed_here(recipes):
    assert {name for name in recipes if name.startswith("Add a")} == {
        "Add a loss",
        "Add a data source",
        "Add a threshold policy",
        "Add an entry point",
    }


def test_a_loss(recipes, copy):
    follow(copy, recipes["Add a loss"])
    assert run_tests(copy, "tests/contracts/test_losses.py", "squared") > 5
    assert "squared" in run(copy, "-m", "trainer.train", "--help")


def test_a_data_source(recipes, copy):
    follow(copy, recipes["Add a data source"])
    texts = {role: [{"text": f"{role} {i}", "labels": ["joy"][: i % 2]} for i in range(3)] for role in ROLES}
    (copy / "mine").mkdir()
    (copy / "mine" / "data.json").write_text(json.dumps(texts), encoding="utf-8")
    program = (
        "from trainer.data import sources; from trainer.data.config import DataConfig; "
        "print(sources.load(DataConfig(dataset='mine'), seed=0).train.labels.tolist())"
    )
    assert run(copy, "-c", program) == "[[0.0], [1.0], [0.0]]\n"


def test_a_threshold_policy(recipes, copy):
    follow(copy, recipes["Add a threshold policy"])
    assert "cautious" in run(copy, "-m", "trainer.train", "--help")
    assert run_tests(copy, "tests/contracts/test_policies.py", "cautious") > 3


def test_an_entry_point(recipes, copy):
    follow(copy, recipes["Add an entry point"])
    assert run(copy, "-m", "trainer.hello", "--name", "you") == "hello you\n"
    assert run_tests(copy, "tests/project/test_mlproject.py", "hello") > 2
