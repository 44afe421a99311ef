"""What a search refuses, what it never shows, and programs beside it. Trainings are stand-ins."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import sqlalchemy

from trainer.core.settings import flatten
from tuning.config import TuneConfig
from tuning.study import command_lock
from tuning.study.storage import DATABASE


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"trials": 0}, "`trials` must"),
            ({"trails": 3}, "Did you mean `trials`?"),
            ({"lerning_rate": 1}, "Did you mean `learning_rate`?"),
            ({"learning_rate": 2}, "`learning_rate` must"),
            ({"losses": "bce,focus"}, "`losses` must"),
            ({"best_metric": "macro_ap"}, "`best_metric` must"),
            ({"dataset": "nowhere/at/all"}, "nowhere/at/all"),
            ({"space": "nothing"}, "`space` must"),
            ({"warm_start": "nothing"}, "`warm_start` must"),
            ({"workers": 100_000}, "`workers` must"),
            ({"repeats": 3, "pruner": "median"}, "`pruner` must"),
            ({"sampler": "cmaes", "against": "size"}, "`sampler` must"),
            ({"sampler": "grid", "warm_start": "emotions"}, "`warm_start` must"),
            ({"sampler": "grid"}, "`trials` must"),
            ({"losses": "bce,weighted_bce", "gamma": 3}, "`gamma` has no effect with loss=bce or loss=weighted_bce"),
            ({"restarts": 3}, "`restarts` has no effect with schedule=linear"),
            ({"model": "typo"}, "`model` must"),
            ({"folds": 3}, "`fold` must be given with folds=3"),
        ],
    )
    def test_is_named_before_anything_is_made(self, searches, settings, message):
        code, output = searches.run(**settings)

        assert code == 1
        assert message in output
        assert searches.runs() == []
        assert not (searches.output / DATABASE).exists()

    def test_a_study_about_something_else(self, searches):
        searches.run(trials=1)
        code, output = searches.run(trials=2, objective="macro_ap")

        assert code == 1
        assert "Cannot continue study s" in output
        assert "objective: macro_f1 then, macro_ap now" in output
        assert "study=s-1" in output
        (searches.folder / "space.yaml").write_text("learning_rate: {low: 1.0e-4, high: 2.0e-2, log: true}\n")
        code, output = searches.run(trials=2)
        assert code == 1
        assert "space epochs" in output

    def test_a_storage_that_does_not_answer(self, searches):
        searches.variables["OPTUNA_STORAGE"] = "postgresql://me:secret-word@127.0.0.1:1/studies"
        code, output = searches.run()

        assert code == 1
        assert "Cannot open the studies in postgresql://127.0.0.1:1/studies" in output
        assert "secret-word" not in output

    def test_a_storage_that_goes_away(self, searches, monkeypatch):
        def fail(*_, **__):
            raise sqlalchemy.exc.OperationalError("select 1", {}, Exception("postgresql://me:secret-word@h"))

        monkeypatch.setattr(command_lock, "_attempt", fail)
        code, output = searches.run()
        assert code == 1
        assert "Cannot reach the database of the study" in output
        assert "secret-word" not in output


def test_a_study_whose_run_is_on_another_server(searches, monkeypatch):
    searches.run(trials=1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{searches.folder}/other.db")
    code, output = searches.run(trials=2)

    assert code == 1
    assert "Cannot find the run of the study" in output
    assert "Set MLFLOW_TRACKING_URI" in output
    assert len(searches.study.trials) == 1


def test_a_password_never_appears(searches, database):
    from tests.tuning.conftest import PASSWORD

    searches.variables["OPTUNA_STORAGE"] = database
    code, output = searches.run(trials=2)
    assert code == 0, output
    assert PASSWORD not in output
    for path in searches.folder.rglob("*"):
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path
    searches.variables["OPTUNA_STORAGE"] = database.replace(PASSWORD, f"{PASSWORD}-wrong")
    code, output = searches.run(trials=2)
    assert code == 1
    assert "Cannot open the studies" in output
    assert PASSWORD not in output


def test_help_lists_every_setting(root):
    done = subprocess.run(
        [sys.executable, "-m", "tuning.tune", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    for name in flatten(TuneConfig()):
        assert f"--{name}" in done.stdout
    assert not done.stderr


def test_the_dashboard_opens_on_the_storage(searches):
    searches.run(trials=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    with (searches.folder / "dashboard.log").open("w") as log:
        server = subprocess.Popen(
            [program, f"sqlite:///{searches.output / DATABASE}", "--port", str(port)], stdout=log, stderr=log
        )
    try:
        answer = None
        until = time.monotonic() + 180
        while answer is None and time.monotonic() < until:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/api/studies", timeout=10).json()
            except (requests.ConnectionError, requests.Timeout):
                assert server.poll() is None, (searches.folder / "dashboard.log").read_text()
                time.sleep(0.2)
    finally:
        server.kill()
        server.wait()
    assert "s" in [study["study_name"] for study in answer["study_summaries"]]
