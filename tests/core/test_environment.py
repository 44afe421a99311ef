import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.core import environment, errors, redaction
from trainer.core.environment import check_launcher_variables, describe
from trainer.core.errors import SettingsError
from trainer.core.run_folder import output_hint, resume_command, sync_command


def test_description_is_plain_json_and_names_what_matters(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HF_TOKEN", "hf_do_not_show")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:hunter2@host")

    text = json.dumps(facts := describe())

    assert facts["variables"]["OMP_NUM_THREADS"] == "3"
    assert {"python", "platform", "cpu", "cpu_count", "memory_bytes", "command"} <= facts.keys()
    assert facts["memory_bytes"] > 2**28
    assert {"mlflow", "numpy", "torch", "transformers"} <= facts["packages"].keys()
    assert "hf_do_not_show" not in text
    assert "hunter2" not in text
    assert None not in facts.values()


def test_gpus_are_named_only_when_torch_is_loaded_already(monkeypatch):
    class Cuda:
        @staticmethod
        def device_count():
            return 2

        @staticmethod
        def get_device_name(index):
            return f"gpu {index}"

    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert "gpus" not in describe()
    monkeypatch.setitem(sys.modules, "torch", type("torch", (), {"cuda": Cuda}))
    assert describe()["gpus"] == ["gpu 0", "gpu 1"]


class TestChildEnvironment:
    def test_a_child_finds_our_packages_anywhere(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", "elsewhere")
        variables = environment.child_environment()
        assert variables["PYTHONPATH"].split(os.pathsep)[1:] == ["elsewhere"]
        monkeypatch.delenv("PYTHONPATH")
        program = "import trainer.core.errors as e; print(e.__file__)"
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment.child_environment(), capture_output=True, text=True, check=True
        )
        assert Path(done.stdout.strip()).parent == Path(environment.__file__).parent

    def test_a_child_keeps_all_but_the_run_that_is_open(self, monkeypatch):
        monkeypatch.setenv("MLFLOW_RUN_ID", "r1")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
        variables = environment.child_environment()
        assert "MLFLOW_RUN_ID" not in variables
        assert variables["MLFLOW_TRACKING_URI"] == "http://host"
        assert os.environ.keys() - variables.keys() == {"MLFLOW_RUN_ID"}
        assert os.environ["MLFLOW_RUN_ID"] == "r1"


class TestAvailableCores:
    def test_are_those_this_process_may_use(self, monkeypatch):
        assert environment.available_cores() == sorted(os.sched_getaffinity(0))
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {7, 3})
        assert environment.available_cores() == [3, 7]

    def test_are_all_where_the_system_does_not_confine(self, monkeypatch):
        monkeypatch.delattr(os, "sched_getaffinity")
        for count, cores in ((3, [0, 1, 2]), (None, [0])):
            monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
            assert environment.available_cores() == cores


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small repository that holds a copy of the code, and a function that asks the copy for its git state."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    core = tmp_path / "copy" / "trainer" / "core"
    core.mkdir(parents=True)
    for module in (environment, errors, redaction):
        shutil.copy(module.__file__, core)

    def state(folder=tmp_path / "copy"):
        code = "from trainer.core.environment import git_state as g; s = g(); print(s and (len(s.commit), s.dirty))"
        return subprocess.run(
            [sys.executable, "-B", "-c", code], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    return tmp_path / "copy", state


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_git_state_says_clean_dirty_or_nothing(checkout):
    folder, state = checkout
    assert state() == "None"

    _git(folder, "init", "-q")
    (folder / ".gitignore").write_text("ignored/\n")
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "x")
    assert state() == "(40, False)"

    (folder / "ignored").mkdir()
    shutil.copytree(folder / "trainer", folder / "ignored" / "trainer")
    assert state() == "(40, False)"
    assert state(folder / "ignored") == "None"

    (folder / "trainer" / "core" / "new.py").write_text("")
    assert state() == "(40, True)"


@pytest.mark.parametrize(
    ("given", "threads"), [(None, None), ("", None), ("4", 4), (" 3,2 ", 3), ("0", None), ("-1", None), ("many", None)]
)
def test_threads_are_those_of_the_environment(given, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert environment.requested_threads() == threads


LAUNCHER = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((), ""),
        (tuple(LAUNCHER), ""),
        (("MASTER_ADDR",), ""),  # alone it starts nothing
        (("LOCAL_RANK",), "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        (("RANK", "WORLD_SIZE"), "LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        (("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"), "LOCAL_RANK"),
    ],
)
def test_variables_of_a_launcher_are_taken_together_or_refused(monkeypatch, names, missing):
    for name, value in LAUNCHER.items():
        if name in names:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name, raising=False)
    if not missing:
        check_launcher_variables()
        return
    with pytest.raises(SettingsError, match=f"without {missing}\\. .*-u {names[-1]} "):
        check_launcher_variables()


def test_a_clone_that_mlflow_made_for_one_command_is_recognised(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.tempfile, "gettempdir", lambda: str(tmp_path))
    clone = tmp_path / "tmpa1b2c3d4"
    (clone / "emotions").mkdir(parents=True)
    monkeypatch.chdir(clone / "emotions")
    assert not environment.in_temporary_clone()
    (clone / ".git").mkdir()
    assert environment.in_temporary_clone()
    assert sync_command(Path("runs/a")).endswith(f"output={clone}/emotions/runs/a")
    assert f"-P output={clone}/emotions/runs" in resume_command(Path("runs/a"))
    assert "output=/absolute/folder" in output_hint(Path("runs"))
    assert output_hint(tmp_path) == ""
    monkeypatch.chdir(tmp_path)
    assert sync_command(Path("runs/a")).endswith("output=runs/a")
    assert output_hint(Path("runs")) == ""
