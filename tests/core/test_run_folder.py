"""Run folders: which run a resume finds, and which settings and data count as changed."""

import os
import shlex
import shutil
import time
from pathlib import Path

import pytest

from trainer.config import TrainConfig, parse
from trainer.core import artifacts, run_folder
from trainer.core.errors import SettingsError
from trainer.core.settings import flatten
from trainer.core.text_files import write_json

SETTINGS = {"learning_rate": 0.1, "dataset": "good", "resume": ""}
DEFAULTS = SETTINGS | {"margin": 0.5}
KEPT = Path(__file__).parents[1] / "kept" / "run-0.1"
"""Files of a run of version 0.1. Its `attention` is set to a value that is called `compact` now."""


def make_run(output, name, settings=SETTINGS, *, age=0, finished=False):
    folder = output / name
    folder.mkdir(parents=True)
    config = write_json(folder / artifacts.CONFIG, settings)
    os.utime(config, (1_000_000 - age, 1_000_000 - age))
    if finished:
        write_json(folder / artifacts.OUTCOME, {"test/macro_f1": 0.5})
    return folder


def find(output, resume="latest", **changes):
    return run_folder.find_resumable(output, resume, DEFAULTS | changes, DEFAULTS)


class TestFindResumable:
    def test_latest_is_the_newest_unfinished_run_of_these_settings(self, tmp_path):
        wanted = make_run(tmp_path, "killed", age=30)
        make_run(tmp_path, "older", age=40)
        make_run(tmp_path, "failed-on-a-typo", SETTINGS | {"dataset": "goood"}, age=20)
        make_run(tmp_path, "finished", age=10, finished=True)
        assert find(tmp_path) == wanted

    def test_latest_prefers_a_run_that_had_read_its_data(self, tmp_path):
        wanted = make_run(tmp_path, "stopped", age=30)
        write_json(wanted / artifacts.DATASET, {})
        make_run(tmp_path, "failed-on-a-wrong-path")
        assert find(tmp_path) == wanted

    def test_latest_is_a_cross_validation_and_not_the_run_of_a_fold(self, tmp_path):
        wanted = make_run(tmp_path, "parent", age=30)
        write_json(wanted / artifacts.FOLD_RUNS, {"1": "of-a-fold"})
        fold = make_run(tmp_path, "of-a-fold")
        (make_run(tmp_path, "damaged", age=40) / artifacts.FOLD_RUNS).write_text("[1]")
        assert find(tmp_path) == wanted
        assert find(tmp_path, "of-a-fold") == fold

    def test_latest_without_a_fitting_run_names_the_differences(self, tmp_path):
        make_run(tmp_path, "killed")
        with pytest.raises(SettingsError, match=r"killed.*learning_rate: 0\.1 then, 0\.2 now"):
            find(tmp_path, learning_rate=0.2)

    @pytest.mark.parametrize("name", [artifacts.CONFIG, artifacts.OUTCOME])
    @pytest.mark.parametrize("text", ["", "[1]", '{"a": ' + "[" * 100_000])
    def test_a_damaged_folder_hides_no_other(self, tmp_path, name, text):
        wanted = make_run(tmp_path, "killed", age=30)
        (make_run(tmp_path, "damaged") / name).write_text(text)
        assert find(tmp_path) == wanted
        if name == artifacts.CONFIG:
            with pytest.raises(SettingsError, match=r"damaged/config\.json"):
                find(tmp_path, "damaged")

    def test_an_id_finds_its_run_unless_it_has_its_results(self, tmp_path):
        folder = make_run(tmp_path, "a")
        assert find(tmp_path, "a", processes="2") == folder
        make_run(tmp_path, "b", finished=True)
        (tmp_path / ".cache").mkdir()
        with pytest.raises(SettingsError, match=r"`resume`.* b, .*sync"):
            find(tmp_path, "b")
        with pytest.raises(SettingsError, match=r"`resume`.* c\..*: a, b"):
            find(tmp_path, "c")

    def test_a_run_with_scores_on_dev_alone_is_unfinished_when_test_is_to_be_read(self, tmp_path):
        folder = make_run(tmp_path, "trial", finished=True)
        write_json(folder / artifacts.OUTCOME, {"dev/macro_f1": 0.5})
        assert find(tmp_path, "trial", read_test=True) == folder
        with pytest.raises(SettingsError, match="`resume`"):
            find(tmp_path, "trial", read_test=False)
        with pytest.raises(SettingsError, match="resume=latest"):
            find(tmp_path, read_test=True)
        write_json(folder / artifacts.OUTCOME, {"dev/macro_f1": 0.5, "test/macro_f1": 0.4})
        with pytest.raises(SettingsError, match="`resume`"):
            find(tmp_path, "trial", read_test=True)

    def test_latest_in_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(SettingsError, match="resume=latest"):
            find(tmp_path)

    def test_a_setting_that_an_earlier_version_lacked_has_its_default(self, tmp_path):
        folder = make_run(tmp_path, "killed")
        assert find(tmp_path) == folder
        with pytest.raises(SettingsError, match=r"margin: 0\.5 then, 0\.7 now"):
            find(tmp_path, margin=0.7)


class TestAnEarlierVersion:
    def test_its_settings_differ_only_where_they_were_given_otherwise(self):
        kept, defaults = run_folder.read_config(KEPT), flatten(TrainConfig())
        wanted = defaults | kept
        assert run_folder.diff_settings(kept, wanted, defaults) == {}
        assert run_folder.diff_settings(kept, wanted | {"epochs": 9}, defaults).keys() == {"epochs"}

    def test_its_run_is_resumed_by_the_same_flags_and_by_none(self, tmp_path):
        shutil.copytree(KEPT, tmp_path / "old")
        kept = run_folder.read_config(KEPT)
        given = [f"--output={tmp_path}", "--resume=old"]
        config = flatten(parse(given))
        assert config | {"output": "", "resume": ""} == flatten(TrainConfig()) | kept | {"output": "", "resume": ""} | {
            "read_test": True
        }
        assert flatten(parse([*given, f"--epochs={kept['epochs']}", f"--loss={kept['loss']}"])) == config

    def test_its_run_is_not_resumed_by_a_flag_or_preset_that_contradicts(self, tmp_path):
        shutil.copytree(KEPT, tmp_path / "old")
        given = [f"--output={tmp_path}", "--resume=latest"]
        with pytest.raises(SettingsError, match=r"old.*epochs: \d+ then, 77 now"):
            parse([*given, "--epochs=77"])
        with pytest.raises(SettingsError, match=r"old.*dataset: starter then"):
            parse([*given, "--preset=goemotions-minilm"])
        assert parse([*given, "--preset=starter"]).run.resume == "old"  # as `mlflow run` gives it


def test_data_that_changed_since_the_run_began_are_named(tmp_path):
    run_folder.check_data(tmp_path, {"train": "a", "dev": "b"})
    run_folder.check_data(tmp_path, {"train": "a", "dev": "b"})
    with pytest.raises(SettingsError, match="dev, test"):
        run_folder.check_data(tmp_path, {"train": "a", "dev": "c", "test": "d"})
    run_folder.check_data(tmp_path, {"train": "a", "dev": "b"})


def test_cached_files_are_deleted_when_they_are_old(tmp_path):
    for name, days in (("old.npz", 31), ("new.npz", 29)):
        (tmp_path / name).write_bytes(b"")
        then = time.time() - days * 24 * 3600
        os.utime(tmp_path / name, (then, then))
    run_folder.prune_cache(tmp_path)
    run_folder.prune_cache(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["new.npz"]


def test_checkpoints_of_finished_runs_are_removed(tmp_path):
    scores = {"finished": '{"test/macro_f1": 0.5}', "trial": '{"dev/macro_f1": 0.5}', "damaged": "{", "stopped": ""}
    for name, content in scores.items():
        (tmp_path / name / artifacts.CHECKPOINTS / "step-3").mkdir(parents=True)
        if content:
            (tmp_path / name / artifacts.OUTCOME).write_text(content)
    run_folder.prune_finished(tmp_path)
    kept = {path.parent.name for path in tmp_path.glob(f"*/{artifacts.CHECKPOINTS}")}
    assert kept == {"trial", "damaged", "stopped"}


@pytest.mark.parametrize(("output", "more"), [("runs", []), ("/data/my runs", ["-P", "output=/data/my runs"])])
def test_the_command_that_resumes_a_run_names_its_folder_unless_it_is_the_usual_one(output, more):
    words = ["mlflow", "run", ".", "-e", "train", "-P", "resume=abc", *more]
    assert shlex.split(run_folder.resume_command(Path(output, "abc"))) == words


def test_parameters_have_no_runtime_setting_and_no_empty_value():
    settings = {"learning_rate": 0.1, "dropout": 0.0, "model_revision": "", "output": "runs", "processes": "auto"}
    assert run_folder.what_is_trained(settings) == {"learning_rate": 0.1, "dropout": 0.0, "processes": "auto"}
