"""Whole searches as processes, with stand-ins for trainings."""

import errno
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import requests
from mlflow import MlflowClient
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tests.tuning.tuning_parts import Searches
from trainer.config import parse
from trainer.core.settings import flatten
from tuning import drivers, queue
from tuning.study import JOURNAL
from tuning.trials import Attribute, begun, is_cut_off, run_id


def states(study):
    return [trial.state for trial in begun(study)]


def test_every_suggested_value_reaches_its_training(searches):
    code, output = searches.run(pruner="none", dropout=0.2)

    assert code == 0, output
    trials = searches.study.trials
    assert len(trials) == 4
    assert all(state == TrialState.COMPLETE for state in states(searches.study))
    for trial in trials:
        used = searches.config(trial)
        assert {name: used[name] for name in trial.params} == trial.params
        assert used["dropout"] == 0.2
        assert used["read_test"] is False
        assert used["best_metric"] == "macro_f1"
    assert len({trial.params["learning_rate"] for trial in trials}) == 4
    assert trials[0].params == {"learning_rate": 3e-4, "epochs": 4}  # of the preset, its 8 epochs brought to the edge
    assert trials[0].user_attrs[Attribute.WARM_START]


def test_runs_are_nested_and_none_is_left_running(searches):
    searches.behave(epoch_seconds=0.4)
    code, output = searches.run(trials=5)
    assert code == 0, output

    runs = {run.info.run_id: run for run in searches.runs()}
    (study_run,) = [run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags]
    assert study_run.data.tags["command"] == "tune"
    assert study_run.info.status == "FINISHED"
    trials = [runs[run_id(trial)] for trial in searches.study.trials]
    assert len(runs) == 1 + len(trials)
    for trial, run in zip(searches.study.trials, trials, strict=True):
        assert run.data.tags["mlflow.parentRunId"] == study_run.info.run_id
        assert run.info.run_name == f"trial {trial.number}"
        expected = {TrialState.COMPLETE: ("FINISHED", "complete"), TrialState.PRUNED: ("KILLED", "pruned")}[trial.state]
        assert (run.info.status, run.data.tags["tuning.state"]) == expected
        assert "error" not in run.data.tags


def test_bad_trials_are_stopped_early(searches):
    searches.behave(epoch_seconds=0.4)
    code, output = searches.run(trials=8, pruner="median", workers=1)

    assert code == 0, output
    pruned = [trial for trial in searches.study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        assert max(trial.intermediate_values) < 6
        assert "pruned" in output
        assert not (searches.output / run_id(trial) / "outcome.json").exists()
    best = searches.study.best_trial
    assert best.value > max(trial.value for trial in pruned)


def test_each_worker_has_its_own_cores(searches):
    searches.behave(epoch_seconds=0.3)
    searches.run(trials=2, pruner="none")

    shares = {share for trial in searches.study.trials for _, share in searches.lives(trial)}
    assert shares == {"[0] None", "[1] None"}


def test_a_failure_is_no_score(searches):
    searches.behave(fails_above=5e-4)
    code, output = searches.run(trials=6, max_failures=6, pruner="none")

    assert code == 0, output
    failed = [trial for trial in searches.study.trials if trial.state == TrialState.FAIL]
    assert failed
    for trial in failed:
        assert trial.value is None
        assert trial.user_attrs[Attribute.CAUSE] == "loss and gradient must be finite, but got loss=nan at step=3."
    by_id = {run.info.run_id: run for run in searches.runs()}
    assert {by_id[run_id(trial)].info.status for trial in failed} == {"FAILED"}
    assert len(states(searches.study)) == 6


def test_a_score_that_is_missing_is_a_failure(searches):
    searches.behave(is_silent=True)
    code, output = searches.run()

    assert code == 1
    assert "it has no number for dev/macro_f1" in output
    assert "max_failures=3 in a row" in output


def test_it_stops_when_everything_fails(searches):
    searches.behave(fails_above=0)
    code, output = searches.run(trials=20, max_failures=2)

    assert code == 1
    assert "2 of 2 failed with: loss and gradient must be finite" in output
    assert len(searches.study.trials) < 8
    assert {run.info.status for run in searches.runs()} <= {"FAILED", "KILLED"}


def test_a_setting_that_does_not_arrive_is_a_defect_and_says_so(searches):
    searches.behave(forgets="learning_rate")
    code, output = searches.run()

    assert code == 1
    assert "training must use what it is given, but got learning_rate" in output


def test_a_training_that_takes_too_long_has_failed(searches):
    searches.behave(epoch_seconds=30)
    code, output = searches.run(trials=1, trial_minutes=0.02)

    assert code == 1
    assert "it took longer than trial_minutes=0.02" in output


def test_a_training_that_is_killed_goes_on_from_its_checkpoint(searches):
    searches.behave(kills_itself=1)
    code, output = searches.run(pruner="none")

    assert code == 0, output
    study = searches.study
    assert states(study) == [TrialState.COMPLETE] * 4
    assert sum(is_cut_off(trial) for trial in study.trials) == 4
    for trial in begun(study):
        assert len(searches.lives(trial)) == 2  # in the same run
        assert study.trials[trial.user_attrs[Attribute.RETRY_OF]].params == trial.params
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}


def test_those_that_are_killed_again_and_again_have_failed(searches):
    searches.behave(kills_itself=99)
    code, output = searches.run(trials=20, max_failures=2, workers=1, pruner="none")

    assert code == 1
    assert "2 of 2 failed with: its process was ended from outside (status -9)" in output
    assert len(searches.study.trials) == 6


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_driver_that_is_stopped_can_go_on(searches, how):
    searches.run(trials=1, pruner="none")
    searches.behave(epoch_seconds=60)
    first = searches.start(pruner="none")
    before = searches.wait_for(lambda study: len(searches.training(study)) == 2)
    pids = [pid for trial in searches.training(before) for pid, _ in searches.lives(trial)]
    first.send_signal(how)
    first.communicate(timeout=60)
    assert first.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how]
    until = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until, "a training has outlived its driver"
        time.sleep(0.1)

    searches.behave(epoch_seconds=0)
    code, output = searches.run(pruner="none")
    assert code == 0, output
    assert states(searches.study) == [TrialState.COMPLETE] * 4
    assert sorted(len(searches.lives(trial)) for trial in begun(searches.study)) == [1, 1, 2, 2]
    runs = searches.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert sum("mlflow.parentRunId" not in run.data.tags for run in runs) == 1


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_number_of_trials_is_that_of_all_commands(searches):
    searches.run(trials=2, pruner="none")
    searches.run(trials=5, pruner="none")
    code, _ = searches.run(trials=5, pruner="none")

    assert code == 0
    assert len(searches.study.trials) == 5
    assert len({trial.params["learning_rate"] for trial in searches.study.trials}) == 5  # none was suggested twice


def test_with_one_worker_it_is_repeatable(tmp_path, root, searches):
    searches.run(trials=4, workers=1)
    (tmp_path / "other").mkdir()
    other = Searches(tmp_path / "other", root)
    other.run(trials=4, workers=1)

    assert [trial.params for trial in searches.study.trials] == [trial.params for trial in other.study.trials]
    assert [trial.state for trial in searches.study.trials] == [trial.state for trial in other.study.trials]


@pytest.mark.parametrize("storage", ["journal", "postgresql"])
class TestTwoDrivers:
    @pytest.fixture
    def shared(self, storage, searches, request):
        if storage == "postgresql":
            searches.variables["OPTUNA_STORAGE"] = request.getfixturevalue("database")
        return searches

    def test_share_a_study(self, shared):
        shared.behave(epoch_seconds=1)
        first = shared.start(trials=6, workers=1, pruner="none", top_k=2, seeds=2, machine="elsewhere")
        shared.wait_for(shared.training)
        code, output = shared.run(trials=6, workers=1, pruner="none", top_k=2, seeds=2)
        told, _ = first.communicate(timeout=120)

        assert (first.returncode, code) == (0, 0), told + output
        assert "this one helps" in output
        assert states(shared.study) == [TrialState.COMPLETE] * 6
        for study in (shared.study, shared.load("s.finals")):
            assert len({trial.user_attrs[Attribute.DRIVER]["machine"] for trial in begun(study)}) == 2
        assert states(shared.load("s.finals")) == [TrialState.COMPLETE] * 4
        runs = shared.runs()
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert sum("mlflow.parentRunId" not in run.data.tags for run in runs) == 1  # who helps has none
        assert len({run.data.tags.get("mlflow.parentRunId") for run in runs}) == 2

    def test_one_takes_over_what_the_other_leaves(self, shared):
        shared.behave(epoch_seconds=1)
        first = shared.start(trials=2, workers=2, pruner="none", machine="elsewhere")
        study = shared.wait_for(lambda study: len(shared.training(study)) == 2)
        pids = [pid for trial in shared.training(study) for pid, _ in shared.lives(trial)]
        first.kill()
        first.communicate(timeout=60)
        shared.behave(epoch_seconds=0)
        code, output = shared.run(trials=2, pruner="none")

        assert code == 0, output
        assert "still at work" in output
        assert states(shared.study) == [TrialState.COMPLETE] * 2
        assert {run.info.status for run in shared.runs()} == {"FINISHED"}
        assert not any(map(is_alive, pids))


def test_a_database_that_is_away_for_a_while_is_waited_for(searches, database, postgresql):
    """As when its server is started anew."""
    searches.variables["OPTUNA_STORAGE"] = database
    searches.behave(epoch_seconds=0.5)
    first = searches.start(pruner="none")
    searches.wait_for(searches.training)
    name = database.rpartition("/")[2]
    with psycopg.connect(f"{postgresql.replace('+psycopg', '')}/postgres", autocommit=True) as server:
        server.execute(f"alter database {name} with allow_connections false")
        server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
        time.sleep(4)
        assert first.poll() is None
        server.execute(f"alter database {name} with allow_connections true")
    said = " ".join(first.communicate(timeout=120)[0].split())

    assert first.returncode == 0, said
    assert "the storage of the study does not answer" in said
    assert states(searches.study) == [TrialState.COMPLETE] * 4
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}


def test_a_study_whose_run_is_on_another_server(searches, monkeypatch):
    searches.run(trials=1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{searches.folder}/other.db")
    code, output = searches.run(trials=2)

    assert code == 1
    assert "study's run must be on the tracking server, but got run_id=" in output
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
    assert "storage of studies must answer" in output
    assert PASSWORD not in output


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"trials": 0}, "trials must be at least 1, but got trials=0"),
            ({"trails": 3}, "Did you mean `trials`?"),
            ({"lerning_rate": 1}, "Did you mean `learning_rate`?"),
            ({"learning_rate": 2}, "learning_rate must be above 0 and at most 1"),
            ({"losses": "bce,focus"}, "loss must be one of"),
            ({"best_metric": "macro_ap"}, "best_metric must be left to the search"),
            ({"dataset": "nowhere/at/all"}, "nowhere/at/all"),
            ({"space": "nothing"}, "space must be a shipped name or a YAML file"),
            ({"warm_start": "nothing"}, "warm_start must name an experiment"),
            ({"workers": 99}, "workers must be at most the number of cores"),
            ({"repeats": 3, "pruner": "median"}, "pruner must be auto, wilcoxon or none with repeats above 1"),
            ({"sampler": "cmaes", "against": "size"}, "sampler must be another than cmaes with two goals"),
            ({"sampler": "grid", "warm_start": "emotions"}, "warm_start must be empty with sampler=grid"),
            ({"sampler": "grid"}, "trials must cover the grid, but got trials=4 for more points"),
        ],
    )
    def test_is_named_before_anything_is_made(self, searches, settings, message):
        code, output = searches.run(**settings)

        assert code == 1
        assert message in output
        assert searches.runs() == []
        assert not (searches.output / JOURNAL).exists()

    def test_a_study_about_something_else(self, searches):
        searches.run(trials=1)
        code, output = searches.run(trials=2, objective="macro_ap")

        assert code == 1
        assert "study must be continued as it was begun" in output
        assert "objective: 'macro_f1' then, 'macro_ap' now" in output
        assert "study=s-1" in output
        (searches.folder / "space.yaml").write_text("learning_rate: {low: 1.0e-4, high: 2.0e-2, log: true}\n")
        code, output = searches.run(trials=2)
        assert code == 1
        assert "space epochs" in output

    def test_a_storage_that_does_not_answer(self, searches):
        searches.variables["OPTUNA_STORAGE"] = "postgresql://me:secret-word@127.0.0.1:1/studies"
        code, output = searches.run()

        assert code == 1
        assert "storage of studies must answer, but got 'postgresql://127.0.0.1:1/studies'" in output
        assert "secret-word" not in output


def test_the_dashboard_opens_on_the_storage(searches):
    searches.run(trials=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    with (searches.folder / "dashboard.log").open("w") as log:
        server = subprocess.Popen(
            [program, str(searches.output / JOURNAL), "--port", str(port)], stdout=log, stderr=log
        )
    try:
        answer = None
        until = time.monotonic() + 60
        while answer is None and time.monotonic() < until:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/api/studies", timeout=10).json()
            except requests.ConnectionError:
                assert server.poll() is None, (searches.folder / "dashboard.log").read_text()
                time.sleep(0.2)
    finally:
        server.kill()
        server.wait()
    assert [study["study_name"] for study in answer["study_summaries"]] == ["s"]


def test_help_is_quick_to_import_and_lists_every_setting(root):
    done = subprocess.run(
        [sys.executable, "-m", "tuning.tune", "--help"], cwd=root, capture_output=True, text=True, check=True
    )
    for name in ("--trials", "--workers", "--losses", "--space", "--top_k", "--retrain_on_dev"):
        assert name in done.stdout
    assert json.dumps(done.stderr) == '""'


class TestFinals:
    def test_the_best_settings_are_trained_again_and_the_winner_alone_reads_test(self, searches):
        code, output = searches.run(trials=5, top_k=2, seeds=2, pruner="none")

        assert code == 0, output
        best = sorted(searches.study.trials, key=lambda trial: -trial.value)[:2]
        runs = {run.info.run_id: run for run in searches.runs()}
        (study_run,) = [run for run in runs.values() if run.data.tags.get("command") == "tune"]
        finals = [run for run in runs.values() if run.info.run_name.startswith("final")]
        used = [json.loads((searches.output / run.info.run_id / "config.json").read_text()) for run in finals]
        assert sorted((one["learning_rate"], one["seed"]) for one in used) == sorted(
            (trial.params["learning_rate"], seed) for trial in best for seed in (43, 44)
        )
        with_test = [
            path.parent.name
            for path in searches.output.glob("*/outcome.json")
            if "test/macro_f1" in json.loads(path.read_text())
        ]
        assert with_test == [study_run.data.tags["tuning.winner"]]
        assert not list(searches.output.glob("*/checkpoints/*"))
        assert study_run.data.metrics["search/best"] == pytest.approx(best[0].value)
        assert study_run.data.metrics["test/macro_f1"] == pytest.approx(best[0].value - 0.02, abs=0.01)

    def test_its_preset_chooses_by_the_score_that_was_searched(self, searches):
        code, output = searches.run(trials=2, top_k=1, seeds=1, objective="macro_ap", pruner="none")

        assert code == 0, output
        (run,) = [run for run in searches.runs() if run.data.tags.get("command") == "tune"]
        preset = searches.output / run.info.run_id / "winner.yaml"
        assert flatten(parse(["--preset", str(preset)]))["best_metric"] == "macro_ap"

    def test_what_the_run_of_the_study_holds(self, searches):
        code, output = searches.run(trials=9, top_k=1, seeds=1, pruner="none", draws=True)
        assert code == 0, output
        client = MlflowClient()
        (run,) = [run for run in searches.runs() if run.data.tags.get("command") == "tune"]
        names = {path.path for folder in ("", "figures") for path in client.list_artifacts(run.info.run_id, folder)}

        assert {"report.html", "trials.json", "winner.yaml", "figures/optimization_history.png"} <= names
        preset = client.download_artifacts(run.info.run_id, "winner.yaml")
        again = flatten(parse(["--preset", preset]))
        winner = json.loads((searches.output / run.data.tags["tuning.winner"] / "config.json").read_text())
        ours = ("preset", "seed", "output", "read_test", "resume")
        assert {name: value for name, value in winner.items() if name not in ours} == {
            name: value for name, value in again.items() if name not in ours
        }

    def test_are_finished_by_the_same_command_after_a_kill(self, searches):
        searches.behave(epoch_seconds=0.5)
        first = searches.start(trials=2, top_k=1, seeds=3, pruner="none", workers=1)
        until = time.monotonic() + 90
        while "final 0:" not in (line := first.stdout.readline()):
            assert line, "it has ended before the first final"
            assert time.monotonic() < until
        first.kill()
        first.communicate(timeout=60)
        searches.behave(epoch_seconds=0)
        code, output = searches.run(trials=2, top_k=1, seeds=3, pruner="none")

        assert code == 0, output
        assert "over 3 fresh seeds" in output
        assert {run.info.status for run in searches.runs()} == {"FINISHED"}


class TestOtherSearches:
    def test_over_two_losses(self, searches):
        searches.write_space("margin: {low: 0.0, high: 0.2, when: {loss: [asl]}}\n")
        code, output = searches.run(trials=8, losses="bce,asl", pruner="none")

        assert code == 0, output
        for trial in searches.study.trials:
            assert ("margin" in trial.params) == (trial.params["loss"] == "asl")
            assert searches.config(trial)["loss"] == trial.params["loss"]
        assert {trial.params["loss"] for trial in searches.study.trials} == {"bce", "asl"}

    def test_for_two_goals(self, searches):
        code, output = searches.run(trials=6, against="size", top_k=1, seeds=1, draws=True)

        assert code == 0, output
        assert all(trial.values[1] == 10.0 * trial.params["epochs"] for trial in searches.study.trials)
        (run,) = [run for run in searches.runs() if run.data.tags.get("command") == "tune"]
        assert (searches.output / run.info.run_id / "figures" / "pareto_front.png").is_file()

    def test_over_seeds(self, searches):
        code, output = searches.run(trials=3, repeats=2, pruner="none")

        assert code == 0, output
        for trial in searches.study.trials:
            assert list(trial.user_attrs[Attribute.RUNS]) == ["42", "43"]
            scores = [
                json.loads((searches.output / run / "outcome.json").read_text())["dev/macro_f1"]
                for run in trial.user_attrs[Attribute.RUNS].values()
            ]
            assert trial.value == pytest.approx(sum(scores) / 2)

    def test_of_a_whole_grid(self, searches):
        code, output = searches.run(trials=20, sampler="grid", pruner="none")

        assert code == 0, output
        assert len({tuple(trial.params.values()) for trial in searches.study.trials}) == 9

    @pytest.mark.parametrize("sampler", ["gp", "cmaes", "random"])
    def test_with_other_samplers(self, searches, sampler):
        code, output = searches.run(trials=6, sampler=sampler, pruner="none")

        assert code == 0, output
        assert len({trial.params["learning_rate"] for trial in searches.study.trials}) == 6

    def test_that_starts_from_earlier_runs(self, searches):
        searches.run(trials=3, pruner="none")
        client = MlflowClient()
        digests = searches.digests()
        for run in [run for run in searches.runs() if "tuning.trial" in run.data.tags]:
            for role, digest in digests.items():
                client.set_tag(run.info.run_id, f"data.digest.{role}", digest)
            used = json.loads((searches.output / run.info.run_id / "config.json").read_text())
            for name, value in used.items():
                client.log_param(run.info.run_id, f"cfg.{name}", str(value))
        code, output = searches.run(study="t", trials=3, pruner="none", warm_start="emotions")

        assert code == 0, output
        assert "3 earlier settings from emotions for the same data" in output
        second = searches.load("t")
        warm = [trial for trial in second.trials if trial.user_attrs.get(Attribute.WARM_START) == "an earlier run"]
        known = {trial.params["learning_rate"] for trial in searches.study.trials}
        assert warm
        assert {trial.params["learning_rate"] for trial in warm} <= known


def test_a_full_disk_ends_it_and_nothing_is_lost(searches, monkeypatch):
    append, calls = JournalFileBackend.append_logs, []

    def append_until_full(backend, logs):
        calls.append(logs)
        if len(calls) > 12:
            with (searches.output / JOURNAL).open("ab") as file:
                file.write(b'{"op_code": 8, "tri')
            raise OSError(errno.ENOSPC, "No space left on device")
        append(backend, logs)

    gone = {**drivers.identity(), "pid": 2**22 + 1}  # so that this process is not the driver that it waits for later
    with monkeypatch.context() as patch:
        patch.setattr(drivers, "identity", lambda: gone)
        patch.setattr(queue, "identity", lambda: gone)
        searches.run(trials=1)
        whole = (searches.output / JOURNAL).read_bytes()
        patch.setattr(JournalFileBackend, "append_logs", append_until_full)
        code, output = searches.run(trials=4)
    assert code == 1
    assert "disk must have room" in output
    assert (searches.output / JOURNAL).read_bytes().startswith(whole)

    code, output = searches.run(trials=4, pruner="none")
    assert code == 0, output
    assert states(searches.study) == [TrialState.COMPLETE] * 4
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}


def test_two_drivers_that_start_at_once_agree_on_who_leads(searches):
    searches.behave(epoch_seconds=0.2)
    both = [searches.start(trials=6, workers=1, pruner="none", machine=name) for name in ("one", "two")]
    said = [" ".join(process.communicate(timeout=120)[0].split()) for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sum("this one helps" in output for output in said) == 1, said
    assert states(searches.study) == [TrialState.COMPLETE] * 6
    assert {run.info.status for run in searches.runs()} == {"FINISHED"}
