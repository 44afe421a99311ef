"""Studies in a storage: made, continued, refused; samplers and pruners by name; storages that do not answer."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import get_args, get_type_hints

import optuna
import pytest
from optuna import pruners, samplers

from trainer.core.errors import TuningError
from tuning.config import SearchConfig
from tuning.study import storage as study
from tuning.study.storage import make_pruner, make_sampler, open_storage, open_study

ABOUT = {"objective": "macro_f1", "space": {"dropout": {"low": 0.0, "high": 0.3}}, "losses": ["bce"]}
SAMPLERS = {
    "tpe": samplers.TPESampler,
    "gp": samplers.GPSampler,
    "cmaes": samplers.CmaEsSampler,
    "random": samplers.RandomSampler,
    "grid": samplers.RandomSampler,
}
PRUNERS = {
    "auto": pruners.HyperbandPruner,
    "hyperband": pruners.HyperbandPruner,
    "median": pruners.MedianPruner,
    "successive_halving": pruners.SuccessiveHalvingPruner,
    "wilcoxon": pruners.WilcoxonPruner,
    "none": pruners.NopPruner,
}


def open_(storage, name="s", about=None, goals=("maximize",), prefix="starter"):
    return open_study(storage, name, ABOUT if about is None else about, list(goals), prefix)


class TestOpenStudy:
    def test_a_new_one_says_what_it_is_about(self, storage):
        made = open_(storage, goals=("maximize", "minimize"))
        assert made.study_name == "s"
        assert [goal.name for goal in made.directions] == ["MAXIMIZE", "MINIMIZE"]
        assert made.user_attrs["about"] == ABOUT

    def test_one_that_exists_is_continued(self, storage):
        open_(storage).enqueue_trial({"dropout": 0.1})
        again = open_(storage, about={**ABOUT, "losses": ("bce",)})  # as JSON has it: a list
        assert len(again.trials) == 1

    def test_one_whose_maker_was_killed_at_once_is_taken(self, storage):
        optuna.create_study(storage=storage, study_name="s", direction="maximize")
        assert open_(storage).user_attrs["about"] == ABOUT

    @pytest.mark.parametrize(
        ("change", "difference"),
        [
            ({"objective": "macro_ap"}, "objective: 'macro_f1' then, 'macro_ap' now"),
            ({"losses": ["bce", "asl"]}, r"losses: \['bce'\] then, \['bce', 'asl'\] now"),
            ({"space": {}}, r"space dropout: \{'low': 0.0, 'high': 0.3\} then, None now"),
            ({"space": {**ABOUT["space"], "epochs": 1}}, "space epochs: None then, 1 now"),
            ({"repeats": 2}, "repeats: None then, 2 now"),
        ],
    )
    def test_one_about_something_else_is_refused_with_the_difference(self, storage, change, difference):
        open_(storage)
        with pytest.raises(TuningError, match=difference) as caught:
            open_(storage, about={**ABOUT, **change})
        assert "but got study='s' with" in str(caught.value)
        assert str(caught.value).endswith("or a new name: study=s-1.")
        assert open_(storage).user_attrs["about"] == ABOUT

    def test_every_difference_is_named_and_the_name_offered_is_free(self, storage):
        for name in ("s", "s-1", "s-3"):
            open_(storage, name)
        with pytest.raises(TuningError) as caught:
            open_(storage, about={**ABOUT, "objective": "macro_ap", "losses": []})
        assert "losses: ['bce'] then, [] now; objective: 'macro_f1' then" in str(caught.value)
        assert str(caught.value).endswith("study=s-2.")

    def test_those_without_a_name_get_numbers(self, storage):
        names = [open_(storage, "", about={"n": number}).study_name for number in range(3)]
        assert names == ["starter-1", "starter-2", "starter-3"]
        assert open_(storage, "", prefix="mine").study_name == "mine-1"

    def test_a_number_that_somebody_else_takes_meanwhile_is_passed_over(self, storage, monkeypatch):
        real, raced = study._free_name, []

        def overtaken(where, name):
            free = real(where, name)
            if not raced:
                raced.append(free)
                optuna.create_study(storage=where, study_name=free)
            return free

        monkeypatch.setattr(study, "_free_name", overtaken)
        assert open_(storage, "").study_name == "starter-2"
        assert raced == ["starter-1"]

    def test_many_that_open_it_at_once_have_the_same(self, tmp_path, monkeypatch):
        monkeypatch.delenv(study.STORAGE_VARIABLE, raising=False)
        barrier, found = threading.Barrier(4), []

        def begin():
            own = open_storage(tmp_path)
            barrier.wait()
            found.append((open_(own)._study_id, open_(own, "").study_name))

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({number for number, _ in found}) == 1
        assert {name for _, name in found} == {f"starter-{number}" for number in range(1, 5)}


class TestSamplers:
    def test_each_choice_is_one(self):
        assert set(SAMPLERS) == set(get_args(get_type_hints(SearchConfig)["sampler"]))
        for name, kind in SAMPLERS.items():
            assert type(make_sampler(SearchConfig(sampler=name), 1)) is kind

    @pytest.mark.parametrize("name", SAMPLERS)
    def test_the_same_seed_suggests_the_same_and_another_one_another(self, name, storage):
        def suggestions(seed, study_name):
            made = optuna.create_study(
                storage=storage, study_name=study_name, sampler=make_sampler(SearchConfig(sampler=name), seed)
            )
            found = []
            for _ in range(3):
                trial = made.ask()
                found.append((trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)))
                made.tell(trial, sum(found[-1]))
            return found

        first = suggestions(1, "a")
        assert suggestions(1, "b") == first
        assert suggestions(2, "c") != first
        assert suggestions(None, "d") != suggestions(None, "e")


class TestPruners:
    def test_each_choice_is_one(self):
        assert set(PRUNERS) == set(get_args(get_type_hints(SearchConfig)["pruner"]))
        for name, kind in PRUNERS.items():
            asked = SearchConfig(pruner=name, repeats=4 if name == "wilcoxon" else 1)
            assert type(make_pruner(asked)) is kind
        assert type(make_pruner(SearchConfig(against="size"))) is pruners.NopPruner
        assert type(make_pruner(SearchConfig(repeats=4))) is pruners.WilcoxonPruner

    @pytest.mark.parametrize("reports", [6, 9, 30])
    @pytest.mark.parametrize("name", ["hyperband", "median", "successive_halving"])
    def test_no_trial_is_judged_before_a_third_of_its_training(self, name, reports, storage):
        pruner = make_pruner(SearchConfig(pruner=name, reports=reports))
        made = optuna.create_study(storage=storage, study_name="s", direction="maximize", pruner=pruner)
        for number in range(30):
            trial = made.ask()
            for step in range(1, reports // 3):
                trial.report(-number, step)
                assert not trial.should_prune()
            made.tell(trial, -number)

    @pytest.mark.parametrize("reports", [2, 9, 30])
    @pytest.mark.parametrize("name", ["hyperband", "median", "successive_halving"])
    def test_a_trial_far_below_all_others_is_stopped_before_its_end(self, name, reports, storage):
        asked = SearchConfig(pruner=name, reports=reports)
        made = optuna.create_study(storage=storage, study_name="s", direction="maximize", pruner=make_pruner(asked))
        stopped = []
        for number in range(30):
            trial, quality = made.ask(), 0.0 if number >= 20 else 0.5 + number / 100
            for step in range(1, reports + 1):
                trial.report(quality, step)
                if step < reports and trial.should_prune():
                    stopped.append((number, step))
                    break
            made.tell(trial, quality)
        assert any(number >= 20 for number, _ in stopped)


_OPEN = """
    import os, signal, sys
    from pathlib import Path
    from tuning import study

    study._LOCK_SECONDS = 3
    if sys.argv[1:] == ["killed"]:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    study.open_study(study.open_storage(Path("runs")), "s", {}, ["maximize"])
"""
"""Opens a study in a folder that is named relative to the present one, as by default."""


def open_one(folder, root, *, is_killed=False):
    """Exit status of that program."""
    command = [sys.executable, "-c", textwrap.dedent(_OPEN), *(["killed"] if is_killed else [])]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=folder, env=environment, timeout=60, check=False).returncode


class TestStorage:
    def test_without_a_database_is_a_journal_in_the_output_folder(self, tmp_path, monkeypatch):
        monkeypatch.delenv(study.STORAGE_VARIABLE, raising=False)
        open_(open_storage(tmp_path / "a" / "runs"))
        lines = (tmp_path / "a" / "runs" / "optuna.journal").read_text().splitlines()
        assert json.loads(lines[0])["study_name"] == "s"
        assert open_(open_storage(tmp_path / "a" / "runs")).user_attrs["about"] == ABOUT

    def test_a_journal_whose_writer_was_killed_is_let_go_of_in_time(self, tmp_path, root):
        assert open_one(tmp_path, root, is_killed=True) == -signal.SIGKILL
        assert open_one(tmp_path, root) == 0

    def test_the_lock_of_a_dashboard_that_was_killed_is_let_go_of_in_time(self, tmp_path, root):
        lock = tmp_path / "runs" / "optuna.journal.lock"
        lock.parent.mkdir()
        lock.symlink_to("runs/optuna.journal")  # as Optuna's default makes it: it points nowhere
        assert open_one(tmp_path, root) == 0
        assert not lock.is_symlink()

    def test_a_torn_line_does_not_spoil_what_comes_after_it(self, tmp_path, monkeypatch):
        monkeypatch.delenv(study.STORAGE_VARIABLE, raising=False)
        made = open_(open_storage(tmp_path))
        with (tmp_path / "optuna.journal").open("ab") as file:
            file.write(b'{"op_code": 2, "wor')  # the disk was full, and has room again
        made.set_user_attr("after", 1)
        assert made.user_attrs["after"] == 1
        assert open_(open_storage(tmp_path)).user_attrs["after"] == 1

    def test_a_folder_that_is_a_file_is_an_error(self, tmp_path, monkeypatch):
        monkeypatch.delenv(study.STORAGE_VARIABLE, raising=False)
        (tmp_path / "runs").write_text("")
        with pytest.raises(TuningError, match=r"storage of studies must answer, but got .*Correct output"):
            open_storage(tmp_path / "runs")

    def test_a_database_may_be_a_file(self, tmp_path, monkeypatch):
        monkeypatch.setenv(study.STORAGE_VARIABLE, f"sqlite:///{tmp_path}/studies.db")
        open_(open_storage(tmp_path / "runs"))
        assert open_(open_storage(tmp_path / "runs")).user_attrs["about"] == ABOUT
        assert (tmp_path / "studies.db").is_file()
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql+psycopg://me:se-cret@127.0.0.1:1/db", "postgresql+psycopg://127.0.0.1:1/db"),
            ("nothing://me:se-cret@host/db", "nothing://host/db"),
            ("postgresql+psycopg://me:se/cr et-se-cret@127.0.0.1:1/db", "postgresql+psycopg://127.0.0.1:1/db"),
            ("postgresql+psycopg://127.0.0.1:1/db?user=me&password=se-cret", "postgresql+psycopg://127.0.0.1:1/db"),
            ("sqlite:////nowhere/at/all/studies.db", "sqlite:////nowhere/at/all/studies.db"),
        ],
    )
    def test_one_that_does_not_answer_is_named_without_its_password(self, url, shown, tmp_path, monkeypatch):
        monkeypatch.setenv(study.STORAGE_VARIABLE, url)
        with pytest.raises(TuningError, match="storage of studies must answer") as caught:
            open_storage(tmp_path)
        assert shown in str(caught.value)
        assert "OPTUNA_STORAGE" in str(caught.value)
        assert caught.value.__cause__ is None
        assert "se-cret" not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "me:se-cret",
            "postgresql://me:se@se-cret@host/db",
            "postgresql://me:se@se-cret/se-cret@host/db",
            "postgresql://me:pa@se-cret?cret@host/db",
            "postgresql://me:se-cret@host:port/db",
        ],
    )
    def test_one_whose_password_cannot_be_told_from_the_rest_is_not_shown_at_all(self, url, tmp_path, monkeypatch):
        monkeypatch.setenv(study.STORAGE_VARIABLE, url)
        with pytest.raises(TuningError, match="OPTUNA_STORAGE must be the URL of a database") as caught:
            open_storage(tmp_path)
        assert "se-cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
