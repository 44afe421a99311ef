"""Studies in a storage: created, continued, refused; storages that do not answer."""

import sqlite3
import threading

import optuna
import pytest
from optuna.trial import TrialState

from trainer.config import TrainConfig
from trainer.core.errors import TuningError
from trainer.core.settings import flatten
from tuning.study import storage as storages
from tuning.study import trials
from tuning.study.storage import STORAGE_VARIABLE, create_numbered_study, create_or_load_study, load_study, open_storage

ABOUT = {"objective": "macro_f1", "space": {"dropout": {"low": 0.0, "high": 0.3}}, "losses": ["bce"]}


@pytest.fixture(autouse=True)
def _no_database(monkeypatch):
    monkeypatch.delenv(STORAGE_VARIABLE, raising=False)


def open_(storage, name="s", about=None, directions=("maximize",)):
    return create_or_load_study(storage, name, ABOUT if about is None else about, list(directions))


def number_(storage, prefix="starter"):
    return create_numbered_study(storage, prefix, ABOUT, ["maximize"]).study_name


class TestOpenStudy:
    def test_a_new_one_says_what_it_is_about(self, storage):
        made = open_(storage, directions=("maximize", "minimize"))
        assert made.study_name == "s"
        assert [one.name for one in made.directions] == ["MAXIMIZE", "MINIMIZE"]
        assert made.user_attrs["about"] == ABOUT

    def test_one_that_exists_is_continued(self, storage):
        open_(storage).enqueue_trial({"dropout": 0.1})
        again = open_(storage, about={**ABOUT, "losses": ("bce",)})  # as JSON has it: a list
        assert len(again.trials) == 1

    def test_one_without_attributes_is_taken(self, storage):
        optuna.create_study(storage=storage, study_name="s", direction="maximize")
        assert open_(storage).user_attrs["about"] == ABOUT

    @pytest.mark.parametrize(
        ("change", "difference"),
        [
            ({"objective": "macro_ap"}, "objective: macro_f1 then, macro_ap now"),
            ({"losses": ["bce", "asl"]}, "losses: bce then, bce,asl now"),
            ({"space": {}}, r"space dropout: '\{\"low\": 0.0, \"high\": 0.3\}' then, none now"),
            ({"space": {**ABOUT["space"], "epochs": 1}}, "space epochs: none then, 1 now"),
            ({"repeats": 2}, "repeats: 1 then, 2 now"),
        ],
    )
    def test_one_about_something_else_is_refused_with_the_difference(self, storage, change, difference):
        open_(storage)
        with pytest.raises(TuningError, match=difference) as caught:
            open_(storage, about={**ABOUT, **change})
        assert "study s:" in str(caught.value)
        assert str(caught.value).endswith("study=s-1.")
        assert open_(storage).user_attrs["about"] == ABOUT

    def test_every_difference_is_named_and_the_name_offered_is_free(self, storage):
        for name in ("s", "s-1", "s-3"):
            open_(storage, name)
        with pytest.raises(TuningError) as caught:
            open_(storage, about={**ABOUT, "objective": "macro_ap", "losses": []})
        assert "losses: bce then, '' now; objective: macro_f1 then" in str(caught.value)
        assert str(caught.value).endswith("study=s-2.")

    def test_those_without_a_name_get_numbers(self, storage):
        assert [number_(storage) for _ in range(3)] == ["starter-1", "starter-2", "starter-3"]
        assert number_(storage, "mine") == "mine-1"

    def test_a_number_that_somebody_else_takes_meanwhile_is_passed_over(self, storage, monkeypatch):
        real, raced = storages._free_name, []

        def overtaken(where, name, taken):
            free = real(where, name, taken)
            if not raced:
                raced.append(free)
                optuna.create_study(storage=where, study_name=free)
            return free

        monkeypatch.setattr(storages, "_free_name", overtaken)
        assert number_(storage) == "starter-2"
        assert raced == ["starter-1"]

    def test_commands_that_open_it_together_have_the_same(self, tmp_path):
        open_storage(tmp_path)
        open_storage(tmp_path)
        barrier, found = threading.Barrier(4), []

        def begin():
            own = open_storage(tmp_path)
            barrier.wait()
            found.append((open_(own)._study_id, number_(own)))

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({number for number, _ in found}) == 1
        assert {name for _, name in found} == {f"starter-{number}" for number in range(1, 5)}


class TestSettingsOfLaterVersions:
    def test_a_setting_that_the_study_lacks_has_its_default(self, storage):
        default = flatten(TrainConfig())["evals_per_epoch"]
        open_(storage, about={**ABOUT, "settings": {"epochs": 2}})
        now = {**ABOUT, "settings": {"epochs": 2, "evals_per_epoch": default}, "repeats": 1, "against": "none"}
        assert open_(storage, about=now).user_attrs["about"]["settings"] == {"epochs": 2}
        with pytest.raises(TuningError, match=f"evals_per_epoch: {default} then, {default + 1} now"):
            open_(storage, about={**ABOUT, "settings": {"epochs": 2, "evals_per_epoch": default + 1}})

    def test_a_renamed_value_is_the_same(self, storage):
        open_(storage, about={**ABOUT, "settings": {"attention": "window"}})
        again = open_(storage, about={**ABOUT, "settings": {"attention": "compact"}})
        assert again.user_attrs["about"]["settings"] == {"attention": "window"}

    def test_another_search_with_a_grid_is_another_one(self, storage):
        open_(storage, about={**ABOUT, "sampler": "grid", "grid_points": 3})
        with pytest.raises(TuningError, match="sampler: grid then, tpe now"):
            open_(storage)


class TestLoadStudy:
    def test_a_worker_needs_one_that_exists(self, storage):
        open_(storage, "other")
        with pytest.raises(TuningError, match=r"`study` must exist .* got s\. Studies there: other"):
            load_study(storage, "s", ABOUT)
        with pytest.raises(TuningError, match="got no name"):
            load_study(storage, "", ABOUT)

    def test_a_worker_joins_the_same_search_alone(self, storage):
        open_(storage)
        assert load_study(storage, "s", ABOUT).study_name == "s"
        with pytest.raises(TuningError, match="losses"):
            load_study(storage, "s", {**ABOUT, "losses": ["asl"]})


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")  # with `ask` alone there is none
class TestStorage:
    def test_without_a_database_is_a_file_in_the_output_folder(self, tmp_path):
        open_(open_storage(tmp_path / "a" / "runs"))
        assert (tmp_path / "a" / "runs" / "optuna.db").is_file()
        assert open_(open_storage(tmp_path / "a" / "runs")).user_attrs["about"] == ABOUT

    def test_a_waiting_trial_is_taken_once_by_threads_of_several_processes(self, tmp_path):
        studies = [open_(open_storage(tmp_path)) for _ in range(3)]
        for number in range(12):
            studies[0].enqueue_trial({"x": number / 12})
        taken, barrier = [], threading.Barrier(3)

        def take(study):
            barrier.wait()
            taken.extend(study.ask().number for _ in range(4))

        threads = [threading.Thread(target=take, args=[study]) for study in studies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == list(range(12))

    def test_a_heartbeat_that_the_database_misses_is_no_error(self, tmp_path):
        storage = open_storage(tmp_path)
        study = open_(storage)
        trial = study.ask()
        with sqlite3.connect(tmp_path / "optuna.db") as connection:
            connection.execute("drop table trial_heartbeats")
        storage.record_heartbeat(trial._trial_id)
        assert [one.state for one in study.trials] == [TrialState.RUNNING]

    def test_a_stale_trial_is_queued_again(self, tmp_path):
        storage = open_storage(tmp_path)
        study = open_(storage)
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        storage.record_heartbeat(trial._trial_id)
        with sqlite3.connect(tmp_path / "optuna.db") as connection:
            connection.execute("update trial_heartbeats set heartbeat = datetime('now', '-2 minutes')")
        assert trials.retry_orphans(study) == []  # Optuna does it
        assert [one.state for one in study.trials] == [TrialState.FAIL, TrialState.WAITING]
        assert study.trials[1].params == trial.params

    def test_a_folder_that_is_a_file_is_an_error(self, tmp_path):
        (tmp_path / "runs").write_text("")
        with pytest.raises(TuningError, match="`output`"):
            open_storage(tmp_path / "runs")

    def test_a_database_may_be_a_file(self, tmp_path, monkeypatch):
        monkeypatch.setenv(STORAGE_VARIABLE, f"sqlite:///{tmp_path}/studies.db")
        open_(open_storage(tmp_path / "runs"))
        assert open_(open_storage(tmp_path / "runs")).user_attrs["about"] == ABOUT
        assert (tmp_path / "studies.db").is_file()
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql+psycopg://me:se-cret@127.0.0.1:1/db", "postgresql+psycopg://127.0.0.1:1/db"),
            ("postgresql+psycopg://me:se/cr et-se-cret@127.0.0.1:1/db", "postgresql+psycopg://127.0.0.1:1/db"),
            ("postgresql+psycopg://127.0.0.1:1/db?user=me&password=se-cret", "postgresql+psycopg://127.0.0.1:1/db"),
            ("sqlite:////nowhere/at/all/studies.db", "sqlite:////nowhere/at/all/studies.db"),
        ],
    )
    def test_one_that_does_not_answer_is_named_without_its_password(self, url, shown, tmp_path, monkeypatch):
        monkeypatch.setenv(STORAGE_VARIABLE, url)
        with pytest.raises(TuningError, match="Cannot open the studies") as caught:
            open_storage(tmp_path)
        assert shown in str(caught.value)
        assert "OPTUNA_STORAGE" in str(caught.value)
        assert caught.value.__cause__ is None
        assert "se-cret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "advice"),
        [
            ("nothing://me:se-cret@host/db", "nothing://host/db. Unset it"),
            ("postgres://me:se-cret@host/db", "postgres://host/db. Write postgresql:// in place of postgres://"),
            ("sqlite://", "in memory"),
            ("sqlite:///:memory:", "in memory"),
            ("journal:///runs/optuna.journal", "Unset it to keep studies in `output`/optuna.db"),
            ("runs/optuna.journal", "Unset it to keep studies in `output`/optuna.db"),
        ],
    )
    def test_one_that_keeps_no_study_is_refused_with_the_remedy(self, url, advice, tmp_path, monkeypatch):
        monkeypatch.setenv(STORAGE_VARIABLE, url)
        with pytest.raises(TuningError, match="`OPTUNA_STORAGE` must") as caught:
            open_storage(tmp_path)
        assert advice in str(caught.value)
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
    def test_one_with_an_ambiguous_password_is_not_shown(self, url, tmp_path, monkeypatch):
        monkeypatch.setenv(STORAGE_VARIABLE, url)
        with pytest.raises(TuningError, match="`OPTUNA_STORAGE` must be a database URL") as caught:
            open_storage(tmp_path)
        assert "se-cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
