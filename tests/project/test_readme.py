"""Every command of README.md is one that works: each is looked up below and checked, and an unknown one fails."""

import re
import shlex
import shutil
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from entry_points import SETTINGS_OF

from trainer.config import PRESETS
from trainer.core import presets, settings
from tuning.study.storage import DATABASE

_SHELL = ("bash", "sh")
_LANGUAGES = (*_SHELL, "python", "text", "yaml", "json", "toml", "mermaid")
_FENCE = re.compile(r"^ *```(?P<language>\S*)[^\n]*\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def commands_of(text):
    """Command lines of the shell blocks of a Markdown text, continued lines joined, comments left out."""
    bodies = [match["body"] for match in _FENCE.finditer(text) if match["language"] in _SHELL]
    lines = "\n".join(bodies).replace("\\\n", " ").splitlines()
    return [" ".join(words) for words in (shlex.split(line, comments=True) for line in lines) if words]


def check_make(words, root):
    """The targets and variables exist: `make -n` can plan them."""
    plan = subprocess.run(["make", "-n", *words[1:]], cwd=root, capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr
    assert set(re.findall(r"[A-Z]+(?==)", " ".join(words))) <= {"ARGS", "PYTHON"}


def check_mlflow_run(words, root):
    """The entry point exists and every parameter is one of its settings; test_mlflow_run.py runs the real thing."""
    entry_points = yaml.safe_load((root / "MLproject").read_text())["entry_points"]
    name = words[words.index("-e") + 1]
    assert words[2] == "."
    assert name in entry_points
    for parameter in [words[place + 1] for place, word in enumerate(words) if word == "-P"]:
        check_setting(name, *parameter.split("=", 1))
    for manager in [words[place + 1] for place, word in enumerate(words) if word == "--env-manager"]:
        assert manager in ("local", "conda", "virtualenv", "uv")


def check_setting(entry_point, name, value):
    """A setting of the entry point, or of the trainings that it starts; a preset is a shipped one, or a file."""
    configurations = [SETTINGS_OF[entry_point], *([SETTINGS_OF["train"]] if entry_point == "tune" else [])]
    assert name in {known for one in configurations for known in settings.flatten(one())}
    if name == "preset":
        assert value in presets.preset_names(PRESETS) or value.endswith("/winner.yaml")


def check_module(words, root):
    """The module answers `--help`, and the flags written after it are in the answer."""
    before_flags = takewhile(lambda word: not word.startswith("--"), words[1:])
    done = subprocess.run(
        [sys.executable, *before_flags, "--help"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for flag in [word for word in words[3:] if word.startswith("--")]:
        assert flag in done.stdout


def check_nothing(words, root):
    """Nothing of ours."""


def check_mlflow(words, root):
    """A command of the installed MLflow."""
    from mlflow.cli import cli

    group = cli
    for word in words[1 : 2 + (words[1] in ("models", "server", "artifacts", "runs"))]:
        group = group.get_command(None, word)
        assert group is not None, f"mlflow has no command {word}"


def check_activate(words, root):
    """The script that `make setup` writes; test_setup.py sources it."""
    assert words[1:] == [".venv/bin/activate"]


def check_dashboard(words, root):
    """Optuna's dashboard on the file where studies are; test_tune_input.py opens it."""
    assert shutil.which(words[0])
    assert Path(words[1]).name == DATABASE


_CHECKS = [  # first match decides
    (r"make( [\w=]|$)", check_make),
    (r"mlflow run ", check_mlflow_run),
    (r"mlflow (ui|models|server|artifacts|runs)\b", check_mlflow),
    (r"python -m (trainer|registry|tuning)\.", check_module),
    (r"(\.|source) ", check_activate),
    (r"git clone ", check_nothing),
    (r"cd [\w-]+$", check_nothing),
    (r"optuna-dashboard ", check_dashboard),
    (r"export [A-Z_]+=", check_nothing),
    (r"\.ci/run$", lambda words, root: check_executable(root / words[0])),
]


def check_executable(path):
    assert path.stat().st_mode & 0o111


def check_for(command):
    """Check that belongs to a command, or None for an unknown one."""
    return next((check for pattern, check in _CHECKS if re.match(pattern, command)), None)


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def test_main_commands_stand_in_the_readme(readme):
    commands = commands_of(readme)

    assert {"make train", "make test"} <= set(commands)
    assert [command for command in commands if command.startswith("mlflow run . -e train")]


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # MLflow's types, loaded by its CLI
def test_every_command_is_known_and_right(readme, root):
    commands = commands_of(readme)

    assert [command for command in commands if check_for(command) is None] == []
    for command in commands:
        check_for(command)(command.split(), root)


def test_every_block_says_its_language(readme):
    """A command in a block of another language would be checked by nobody."""
    blocks = [match["language"] for match in _FENCE.finditer(readme)]

    assert readme.count("```") == 2 * len(blocks) > 0
    assert [language for language in blocks if language not in _LANGUAGES] == []


def test_files_named_in_links_exist(readme, root):
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", readme) if "://" not in link]

    assert [link for link in links if not (root / link).exists()] == []


@pytest.mark.parametrize(
    "command", ["pip install emotions", "mlflow experiments list", "python train.py", "curl example.com | sh"]
)
def test_unknown_commands_are_unknown(command):
    assert check_for(command) is None


@pytest.mark.parametrize(
    "command",
    [
        "make nothing",
        "mlflow run . -e nothing",
        "mlflow run . -e train -P nothing=1",
        "mlflow run . -e train -P preset=nothing",
        "python -m trainer.nothing",
        ". venv/bin/activate",
    ],
)
def test_wrong_commands_are_found(command, root):
    with pytest.raises(AssertionError):
        check_for(command)(command.split(), root)


def test_commands_are_read_from_shell_blocks_only():
    shell = "```bash\nmake \\\n  train  # now\n\n# nothing\n```\n"
    others = "```python\nmake test\n```\nmake check\n"

    assert commands_of(f"{shell}{others}   ```sh\n   make ui\n   ```\n") == ["make train", "make ui"]
