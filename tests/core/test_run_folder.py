"""Run folders: which one a resume finds, and files that are whole or not there."""

import json
import os

import pytest

from trainer.core import artifacts, run_folder
from trainer.core.errors import SettingsError

SETTINGS = {"learning_rate": 0.1, "dataset": "good", "resume": ""}


def make_run(output, name, settings=SETTINGS, *, age=0, finished=False):
    folder = output / name
    folder.mkdir(parents=True)
    config = run_folder.write_json(folder / artifacts.CONFIG, settings)
    os.utime(config, (1_000_000 - age, 1_000_000 - age))
    if finished:
        run_folder.write_json(folder / artifacts.OUTCOME, {"test/macro_f1": 0.5})
    return folder


def test_latest_is_the_newest_unfinished_run_of_these_settings(tmp_path):
    wanted = make_run(tmp_path, "killed", age=30)
    make_run(tmp_path, "older", age=40)
    make_run(tmp_path, "failed-on-a-typo", SETTINGS | {"dataset": "goood"}, age=20)
    make_run(tmp_path, "finished", age=10, finished=True)
    assert run_folder.find_resumable(tmp_path, "latest", SETTINGS | {"resume": "latest"}) == wanted


def test_latest_without_a_fitting_run_says_what_is_different(tmp_path):
    make_run(tmp_path, "killed")
    with pytest.raises(SettingsError, match=r"learning_rate: 0.1 then, 0.2 now"):
        run_folder.find_resumable(tmp_path, "latest", SETTINGS | {"learning_rate": 0.2})


def test_a_run_is_found_by_its_id_unless_it_has_its_results(tmp_path):
    folder = make_run(tmp_path, "a")
    assert run_folder.find_resumable(tmp_path, "a", SETTINGS | {"processes": "2"}) == folder
    make_run(tmp_path, "b", finished=True)
    with pytest.raises(SettingsError, match=r"has its results.*sync"):
        run_folder.find_resumable(tmp_path, "b", SETTINGS)
    with pytest.raises(SettingsError, match=r"resume='c'.*Folders there: a, b"):
        run_folder.find_resumable(tmp_path, "c", SETTINGS)


def test_a_run_that_has_scored_dev_alone_is_unfinished_for_who_asks_for_test(tmp_path):
    folder = make_run(tmp_path, "trial", finished=True)
    run_folder.write_json(folder / artifacts.OUTCOME, {"dev/macro_f1": 0.5})
    assert run_folder.find_resumable(tmp_path, "trial", SETTINGS | {"read_test": True}) == folder
    with pytest.raises(SettingsError, match="has its results"):
        run_folder.find_resumable(tmp_path, "trial", SETTINGS | {"read_test": False})
    with pytest.raises(SettingsError, match="resume=latest must find an unfinished run"):
        run_folder.find_resumable(tmp_path, "latest", SETTINGS | {"read_test": True})
    run_folder.write_json(folder / artifacts.OUTCOME, {"dev/macro_f1": 0.5, "test/macro_f1": 0.4})
    with pytest.raises(SettingsError, match="has its results"):
        run_folder.find_resumable(tmp_path, "trial", SETTINGS | {"read_test": True})


def test_latest_in_an_empty_folder_says_so(tmp_path):
    with pytest.raises(SettingsError, match="resume=latest must find an unfinished run"):
        run_folder.find_resumable(tmp_path, "latest", SETTINGS)


def test_json_is_replaced_whole_and_holds_no_missing_numbers(tmp_path):
    path = run_folder.write_json(tmp_path / "deep" / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        run_folder.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_data_that_changed_since_the_run_began_are_named(tmp_path):
    run_folder.check_data(tmp_path, {"train": "a", "dev": "b"})
    run_folder.check_data(tmp_path, {"train": "a", "dev": "b"})
    with pytest.raises(SettingsError, match=r"other rows in changed=\['dev', 'test'\]"):
        run_folder.check_data(tmp_path, {"train": "a", "dev": "c", "test": "d"})
    run_folder.check_data(tmp_path, {"train": "a", "dev": "b"})
