"""Commands, links, settings and defaults in README and docs are right; an unknown command fails the test."""

import importlib.util
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
from trainer.core import descriptions, presets, settings
from tuning.study.storage import DATABASE

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = tuple(f"reference/{name}.md" for name in ("entry-points", "settings", "metrics", "artifacts"))
_OTHER_PAIRS = ("train_sampling_strategy", "debug")  # of the Trainer of transformers; of every command
_SHELL = ("bash", "sh")
_LANGUAGES = (*_SHELL, "python", "diff", "text", "yaml", "json", "toml", "mermaid")
_FENCE = re.compile(r"^ *```(?P<language>\S*)[^\n]*\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)


def commands_of(text):
    """Command lines of the shell blocks of a Markdown text, continued lines joined, comments left out."""
    bodies = [match["body"] for match in _FENCE.finditer(text) if match["language"] in _SHELL]
    lines = "\n".join(bodies).replace("\\\n", " ").splitlines()
    return [shlex.join(argv) for argv in (shlex.split(line, comments=True) for line in lines) if argv]


def check_make(argv, root):
    """The targets and variables exist: `make -n` can plan them."""
    plan = subprocess.run(["make", "-n", *argv[1:]], cwd=root, capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr
    assert set(re.findall(r"[A-Z]+(?==)", " ".join(argv))) <= {"ARGS", "PYTHON"}


def check_mlflow_run(argv, root):
    """The entry point exists and every parameter is one of its settings; test_mlflow_run.py runs the real thing."""
    entry_points = yaml.safe_load((root / "MLproject").read_text())["entry_points"]
    name = argv[argv.index("-e") + 1]
    assert argv[2] == "."
    assert name in entry_points
    for parameter in [argv[place + 1] for place, word in enumerate(argv) if word == "-P"]:
        check_setting(name, *parameter.split("=", 1))
    for manager in [argv[place + 1] for place, word in enumerate(argv) if word == "--env-manager"]:
        assert manager in ("local", "conda", "virtualenv", "uv")


def check_setting(entry_point, name, value):
    """A setting of the entry point, or of the trainings that it starts; a preset is a shipped one, or a file."""
    configurations = [SETTINGS_OF[entry_point], *([SETTINGS_OF["train"]] if entry_point in ("tune", "compare") else [])]
    assert name in {known for one in configurations for known in settings.flatten(one())}
    if name == "preset":
        assert value in presets.preset_names(PRESETS) or value.endswith("/winner.yaml")


def check_module(argv, root):
    """The module answers `--help`, and the flags written after it are in the answer."""
    before_flags = takewhile(lambda word: not word.startswith("--"), argv[1:])
    done = subprocess.run(
        [sys.executable, *before_flags, "--help"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for flag in [word for word in argv[3:] if word.startswith("--")]:
        assert flag in done.stdout


def check_nothing(argv, root):
    """Nothing of ours."""


def check_mlflow(argv, root):
    """A command of the installed MLflow."""
    from mlflow.cli import cli

    group = cli
    for word in argv[1 : 2 + (argv[1] in ("models", "server", "artifacts", "runs"))]:
        group = group.get_command(None, word)
        assert group is not None, f"mlflow has no command {word}"


def check_activate(argv, root):
    """The script that `make setup` writes; test_setup.py sources it."""
    assert argv[1:] == [".venv/bin/activate"]


def check_dashboard(argv, root):
    """Optuna's dashboard on the file where studies are; test_tune_input.py opens it."""
    assert shutil.which(argv[0])
    assert Path(argv[1]).name == DATABASE


def check_script(argv, root):
    """A script of the service: it answers `--help`, and the flags written after it are in the answer."""
    done = subprocess.run([argv[0], "--native", "--help"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for flag in [word for word in argv[1:] if word.startswith("--")]:
        assert flag in done.stdout


def check_compose(argv, root):
    """The composition has the service and the profile, and the image the module; tests/service reads the rest."""
    composition = yaml.safe_load((root / "docker/compose.yaml").read_text())["services"]
    assert argv[2:4] == ["-f", "docker/compose.yaml"]
    profiles = {profile for service in composition.values() for profile in service.get("profiles", ())}
    assert {argv[place + 1] for place, word in enumerate(argv) if word == "--profile"} <= profiles
    words = [word for word in argv[4:] if word not in profiles - {"train", "train-cuda"}]
    (verb,) = [word for word in words if word in ("up", "down", "ps", "logs", "restart", "run", "build")][:1]
    if verb in ("run", "logs", "restart"):
        (service,) = [word for word in words if word in composition]
        modules = words[words.index(service) + 1 :]
        if modules:
            check_module([sys.executable, "-m", *modules], root)


_CHECKS = [  # first match decides
    (r"make( [\w=]|$)", check_make),
    (r"mlflow run ", check_mlflow_run),
    (r"mlflow (ui|models|server|artifacts|runs|experiments create)\b", check_mlflow),
    (r"python -m (trainer|registry|tuning|tests\.chaos)\.", check_module),
    (r"(\.|source) ", check_activate),
    (r"git clone ", check_nothing),
    (r"cd [\w-]+$", check_nothing),
    (r"optuna-dashboard ", check_dashboard),
    (r"docker compose ", check_compose),
    (r"export '?[A-Z0-9_]+=", check_nothing),
    (r"curl -s localhost:", check_nothing),
    (r"docker/(backup|restore|verify|gc|users)\.sh", check_script),
    (r"docker/studies\.sh$", lambda argv, root: check_executable(root / argv[0])),
    (r"\.ci/run$", lambda argv, root: check_executable(root / argv[0])),
]


def check_executable(path):
    assert path.stat().st_mode & 0o111


def check_for(command):
    """Check that belongs to a command, or None for an unknown one."""
    return next((check for pattern, check in _CHECKS if re.match(pattern, command)), None)


_PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
)


@pytest.fixture(params=_PAGES)
def page(request):
    return ROOT / request.param


def read_settings():
    """Setting -> the types and defaults it has, over all entry points."""
    known = {}
    for config_class in SETTINGS_OF.values():
        for name, value in settings.flatten(config_class()).items():
            known.setdefault(name, []).append(value)
    return known


def test_documents_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "docs/tutorials/own-data.md"} <= set(_PAGES)


def test_main_commands_are_in_the_readme():
    commands = commands_of(README)

    assert {"make train", "make test"} <= set(commands)
    assert [command for command in commands if command.startswith("mlflow run . -e train")]


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # MLflow's types, loaded by its CLI
def test_every_command_is_known_and_right(page, root):
    commands = commands_of(page.read_text(encoding="utf-8"))

    assert [command for command in commands if check_for(command) is None] == []
    for command in commands:
        check_for(command)(shlex.split(command), root)


def test_every_block_names_its_language(page):
    """A command in a block of another language would not be checked."""
    text = page.read_text(encoding="utf-8")
    blocks = [match["language"] for match in _FENCE.finditer(text)]

    assert text.count("```") == 2 * len(blocks)
    assert [language for language in blocks if language not in _LANGUAGES] == []


def test_files_named_in_links_exist(page):
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    generated = {(ROOT / "docs" / name).resolve() for name in GENERATED}

    missing = [link for link in links if not (page.parent / link).exists()]
    assert [link for link in missing if (page.parent / link).resolve() not in generated] == []


def test_settings_in_running_text_exist_and_accept_the_value(page):
    """`name=value` in a sentence is a setting of an entry point, and the value has its type."""
    known = read_settings()
    pairs = re.findall(r"`([a-z_]+)=([^`\s]+)`", page.read_text(encoding="utf-8"))

    for name, value in pairs:
        assert name in known or name in _OTHER_PAIRS, f"{name}={value}"
        for default in known.get(name, [""])[:1]:
            if isinstance(default, bool):
                assert value in ("true", "false")
            elif isinstance(default, int | float):
                float(value)


def test_defaults_in_tables_are_the_defaults(page):
    """A cell "`name` (value)" states a default."""
    known = read_settings()
    for name, value in re.findall(r"`([a-z_]+)` \(([\d.]+)\)", page.read_text(encoding="utf-8")):
        assert float(value) in [float(one) for one in known[name]], name


def test_presets_in_the_readme_are_the_shipped_ones():
    section = README.partition("## Presets")[2].partition("## ")[0]
    rows = re.findall(r"^\| `([\w-]+)`[^|]*\| ([^|]+) \|", section, re.MULTILINE)
    encoders = {name: encoder.strip("` ") for name, encoder in rows}

    shipped = set(presets.preset_names(PRESETS)) - {"starter-encoder"}  # made the starter's weights, not for users
    assert shipped == set(encoders)
    for name in shipped - {"starter"}:
        assert presets.load_preset(name, PRESETS)["model"] == encoders[name]


def test_the_readme_lists_every_entry_point(root):
    listed = re.findall(r"^\| `mlflow run \. -e (\w+)`", README, re.MULTILINE)

    assert sorted(listed) == sorted(yaml.safe_load((root / "MLproject").read_text())["entry_points"])


def test_main_parameters_in_the_readme_are_settings(root):
    rows = re.findall(
        r"^\| `mlflow run \. -e (\w+)` \|[^|]*\|([^|]*)\|",
        README,
        re.MULTILINE,
    )
    for entry_point, cell in rows:
        for name in re.findall(r"`(\w+)`", cell):
            assert name in settings.flatten(SETTINGS_OF[entry_point]()), (entry_point, name)


def test_generated_pages_list_every_setting(hooks):
    page = hooks.settings_page()

    for entry_point, config_class in SETTINGS_OF.items():
        assert f"## {entry_point}\n" in page
        for name in settings.flatten(config_class()):
            assert f"| `{name}` |" in page


def test_generated_pages_list_every_metric_and_file(hooks):
    metrics, files = hooks.metrics_page(), hooks.artifacts_page()

    assert all(f"`{name}`" in metrics for name in descriptions.METRICS)
    assert all(f"`{name}`" in files for name in descriptions.FILES)


def test_every_page_is_in_the_navigation(root):
    config = yaml.safe_load((root / "mkdocs.yml").read_text())

    named = set(re.findall(r"[\w/-]+\.md", yaml.dump(config["nav"])))
    pages = {name.removeprefix("docs/") for name in _PAGES if name.startswith("docs/")} | set(GENERATED)
    assert named == pages


@pytest.fixture(scope="module")
def hooks(root):
    """The module docs/hooks.py."""
    spec = importlib.util.spec_from_file_location("hooks", root / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        check_for(command)(shlex.split(command), root)


def test_commands_are_read_from_shell_blocks_only():
    shell = "```bash\nmake \\\n  train  # now\n\n# nothing\n```\n"
    others = "```python\nmake test\n```\nmake check\n"

    assert commands_of(f"{shell}{others}   ```sh\n   make ui\n   ```\n") == ["make train", "make ui"]
