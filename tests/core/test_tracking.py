import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainer.core import artifacts, connection, courier, tracker, tracking
from trainer.core.errors import TrackingError
from trainer.core.spool import Spool
from trainer.core.tracking import NullTracker, Tracker, open_run, sync

# ruff: noqa: PT012 - what raises here is a whole run, several lines long

pytestmark = [
    # SQLAlchemy 2.1 warns of a loader that MLflow 3.17's own tables use.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    # MLflow 3.17 warns of a type hint of its own when mlflow.pyfunc is imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

_MODEL_CODE = """
import mlflow

class Lengths(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None):
        return [len(text) for text in model_input]

mlflow.models.set_model(Lengths())
"""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """An SQLite file with MLflow's tables: making them takes seconds, copying them none."""
    folder = tmp_path_factory.mktemp("database")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        connection.connect(f"sqlite:///{folder}/empty.db")
    return folder / "empty.db"


@pytest.fixture(autouse=True)
def _no_outer_run(monkeypatch):
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(courier, "_INTERVAL_SECONDS", 0.05)


@pytest.fixture
def database(tmp_path, monkeypatch, empty_database):
    """A local store of its own, and the present folder beside it."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    import mlflow

    folder = tmp_path_factory.mktemp("model")
    (folder / "code.py").write_text(_MODEL_CODE)
    mlflow.pyfunc.save_model(folder / "model", python_model=str(folder / "code.py"), pip_requirements=["mlflow"])
    return folder / "model"


def _history(client, run_id, name):
    return [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, name)]


def _spooled_history(folder, name):
    with Spool(folder) as spool:
        return [
            (entry.content["step"], entry.content["metrics"][name], entry.time)
            for entry in spool.entries()
            if entry.kind == "metrics" and name in entry.content["metrics"]
        ]


# A run and what it holds


def test_a_run_holds_what_was_logged_and_ends_finished(database, tmp_path):
    with open_run(tmp_path / "runs", parameters={"lr": 1e-5, "register": True, "resume": None, "text": ""}) as run:
        run.set_tags({artifacts.TAG_PRESET: "starter"})
        for step in range(3):
            run.log_metrics({"train/loss": 1 / (step + 1), "dev/macro_f1": float("nan")}, step)
        (run.folder / "figures").mkdir()
        (run.folder / "figures" / "pr.png").write_bytes(b"png")
        (run.folder / artifacts.CONFIG).write_text("{}")
        (run.folder / "checkpoint.bin").write_bytes(b"not for the server")
        run.log_artifacts()

    stored = database.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert database.get_experiment(stored.info.experiment_id).name == "emotions"
    assert stored.data.params == {"cfg.lr": "1e-05", "cfg.register": "true", "cfg.resume": "none", "cfg.text": ""}
    assert stored.data.tags["preset"] == "starter"
    assert stored.data.tags["mlflow.user"]
    assert artifacts.TAG_ERROR not in stored.data.tags
    assert _history(database, run.run_id, "train/loss") == _spooled_history(run.folder, "train/loss")
    assert [step for step, _, _ in _history(database, run.run_id, "train/loss")] == [0, 1, 2]
    assert {file.path for file in database.list_artifacts(run.run_id)} == {"config.json", "figures"}
    assert [file.path for file in database.list_artifacts(run.run_id, "figures")] == ["figures/pr.png"]
    assert run.folder == tmp_path / "runs" / run.run_id
    assert sync(run.folder) == 0


def test_system_metrics_are_sampled_and_no_thread_outlives_the_run(database, tmp_path):
    before = set(threading.enumerate())
    with open_run(tmp_path) as run:
        assert {thread.name for thread in threading.enumerate()} >= {"tracking-courier", "system-metrics"}

    assert set(threading.enumerate()) <= before
    names = database.get_run(run.run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= names.keys()


def test_system_metrics_can_be_switched_off_and_timed_as_in_mlflow(database, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_NODE_ID", "node7")
    with open_run(tmp_path) as often:
        time.sleep(0.3)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with open_run(tmp_path) as never:
        pass

    samples = _history(database, often.run_id, "system/node7/system_memory_usage_percentage")
    assert [step for step, _, _ in samples] == list(range(len(samples)))
    assert len(samples) >= 2
    assert database.get_run(never.run_id).data.metrics == {}


def test_a_hundred_metrics_go_in_one_call_and_neighbours_share_it(database, tmp_path, monkeypatch):
    import mlflow

    calls = []
    plain = mlflow.MlflowClient.log_batch
    monkeypatch.setattr(courier, "_INTERVAL_SECONDS", 600)
    monkeypatch.setattr(
        mlflow.MlflowClient,
        "log_batch",
        lambda client, run_id, **data: (calls.append(len(data.get("metrics", ()))), plain(client, run_id, **data)),
    )
    with open_run(tmp_path) as run:
        assert run.flush(30)
        calls.clear()
        for step in range(12):
            run.log_metrics({f"dev/f1/label {index}": 0.5 for index in range(100)}, step)
        assert run.flush(30)

    assert calls[:2] == [1000, 200]
    assert len(_history(database, run.run_id, "dev/f1/label 99")) == 12


def test_a_metric_name_that_mlflow_would_refuse_is_refused_at_once(database, tmp_path):
    with open_run(tmp_path) as run:
        for name in ("a(b", "a//b", "../a", "a" * 251, ""):
            with pytest.raises(ValueError, match="metric name must be"):
                run.log_metrics({name: 1.0}, 0)
        with pytest.raises(TypeError):
            run.log_metrics({"train/loss": None}, 0)


def test_label_metrics_are_distinct_names_that_mlflow_takes(database, tmp_path):
    labels = ["joy", "joy(1)", "joy[1]", "a/b", "..", "fröhlich", "100 %", "a:b"]
    names = [artifacts.label_metric("test", "f1", label) for label in labels]
    with open_run(tmp_path) as run:
        run.log_metrics(dict.fromkeys(names, 0.5), 1)

    assert names[0] == "test/f1/joy"
    assert len(set(names)) == len(labels)
    assert set(names) <= database.get_run(run.run_id).data.metrics.keys()


def test_datasets_are_inputs_with_context_and_full_digest(database, tmp_path):
    with open_run(tmp_path) as run:
        for _ in range(2):
            run.log_dataset("starter", "ab" * 32, "train", "trainer/data/starter", {"rows": 900})
        run.log_dataset("goemotions", "cd" * 32, "test", "google/go_emotions@1a2b", {"rows": 5427})

    inputs = {item.dataset.name: item for item in database.get_run(run.run_id).inputs.dataset_inputs}
    assert inputs.keys() == {"starter", "goemotions"}
    assert inputs["starter"].dataset.digest == "ab" * 16
    assert "ab" * 32 in inputs["starter"].dataset.profile
    assert inputs["starter"].tags[0].value == "train"
    assert inputs["goemotions"].dataset.source_type == "hugging_face"
    assert "1a2b" in inputs["goemotions"].dataset.source


def test_a_model_is_an_output_of_the_run_and_one_version_however_often_it_is_logged(database, tmp_path, saved_model):
    import mlflow

    with open_run(tmp_path / "runs") as run:
        run.log_metrics({"test/macro_f1": 0.53, "dev/macro_f1": 0.5}, 7)
        for _ in range(2):
            run.log_model(saved_model, 7)
            assert run.register("emotions") == 1
    with open_run(tmp_path / "runs", resume=run.run_id) as again:
        again.log_model(saved_model, 8)
        assert again.register("emotions") == 1

    outputs = database.get_run(run.run_id).outputs.model_outputs
    model = database.get_logged_model(outputs[0].model_id)
    assert len(outputs) == 1
    assert model.status == "READY"
    assert {point.key: point.value for point in model.metrics} == {"test/macro_f1": 0.53}
    assert _history(database, run.run_id, "test/macro_f1")[0][:2] == (7, 0.53)
    assert len(_history(database, run.run_id, "test/macro_f1")) == 1
    for uri in (f"runs:/{run.run_id}/model", model.model_uri, "models:/emotions/1"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert list(loaded.predict(["a", "abc"])) == [1, 3]
        assert loaded.metadata.run_id == run.run_id
        assert loaded.metadata.model_id == model.model_id
    assert [version.version for version in database.search_model_versions("name = 'emotions'")] in ([1], ["1"])


def test_no_password_reaches_the_server_or_the_folder(database, tmp_path):
    with pytest.raises(ValueError, match="boom"), open_run(tmp_path, parameters={"data": "s3://k:hunter2@b/x"}) as run:
        run.set_tags({"origin": "https://ann:hunter2@host/x"})
        run.log_dataset("d", "00", "train", "https://ann:hunter2@host/x", {})
        raise ValueError("boom at http://ann:hunter2@host")

    stored = database.get_run(run.run_id)
    assert "hunter2" not in repr(stored.to_dictionary())
    assert "hunter2" not in (run.folder / "spool.jsonl").read_text()
    assert stored.data.params["cfg.data"] == "s3://b/x"


def test_the_null_tracker_has_every_method_of_the_protocol(tmp_path):
    null: Tracker = NullTracker("r", tmp_path)
    names = {name for name in vars(Tracker) if not name.startswith("_")}

    assert len(names) == 11
    assert names <= set(dir(null))
    assert names <= set(dir(tracker.MlflowTracker)) | {"run_id", "folder"}
    null.log_metrics({"train/loss": 1.0}, 0)
    assert null.register("emotions") is None
    assert null.flush(0)
    assert list(tmp_path.iterdir()) == []


# How a run ends


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RuntimeError("no room on device"), "FAILED"),
        (SystemExit(2), "FAILED"),
        (SystemExit("bad"), "FAILED"),
        (SystemExit(143), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(0), "FINISHED"),
        (SystemExit(None), "FINISHED"),
    ],
)
def test_the_status_tells_how_the_block_ended(database, tmp_path, failure, status):
    with pytest.raises(type(failure)) as raised, open_run(tmp_path) as run:
        raise failure

    assert raised.value is failure
    stored = database.get_run(run.run_id)
    assert stored.info.status == status
    assert (artifacts.TAG_ERROR in stored.data.tags) == (status != "FINISHED")
    if isinstance(failure, RuntimeError):
        assert stored.data.tags[artifacts.TAG_ERROR] == "RuntimeError: no room on device"


def test_sigterm_kills_the_run_and_keeps_the_exit_code(database, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as raised, open_run(tmp_path) as run:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    assert raised.value.code == 143
    assert database.get_run(run.run_id).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_signal_while_closing_does_not_cost_the_run_its_status(database, tmp_path, monkeypatch):
    real = tracking.SystemMetrics.stop

    def stop_and_be_told_again(self):
        real(self)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(tracking.SystemMetrics, "stop", stop_and_be_told_again)
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path) as run:
        raise KeyboardInterrupt
    assert database.get_run(run.run_id).info.status == "KILLED"


def test_a_full_disk_fails_the_run_with_a_clear_error(database, tmp_path, monkeypatch):
    with pytest.raises(TrackingError, match=r"run folder must be writable.*No space left"), open_run(tmp_path) as run:
        run.log_metrics({"train/loss": 1.0}, 0)
        run.flush(30)
        monkeypatch.setattr("trainer.core.spool.os.write", _no_space)
        run.log_metrics({"train/loss": 2.0}, 1)

    stored = database.get_run(run.run_id)
    assert stored.info.status == "FAILED"
    assert "No space left" in stored.data.tags[artifacts.TAG_ERROR]
    assert len(_history(database, run.run_id, "train/loss")) == 1


def _no_space(descriptor, data):
    raise OSError(28, "No space left on device")


def test_an_operation_the_server_never_takes_is_put_aside_and_holds_nothing_up(database, tmp_path, caplog):
    with open_run(tmp_path, parameters={"seed": 1}) as run:
        run.flush(30)
        (run.folder / "gone.txt").write_text("x")
        with _away(run):
            run.log_artifact("gone.txt")
            (run.folder / "gone.txt").unlink()
            run.log_metrics({"train/loss": 1.0}, 0)

    assert "gone.txt was removed" in caplog.text
    assert "gone.txt" in (run.folder / "spool.refused.jsonl").read_text()
    assert len(_history(database, run.run_id, "train/loss")) == 1
    assert database.get_run(run.run_id).info.status == "FINISHED"


@contextlib.contextmanager
def _away(run):
    """The store of `run` fails like a server that is down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run._store, "apply", _refuse_connection)
        yield


def _refuse_connection(*_):
    raise ConnectionError("http://ann:hunter2@host refused")


def test_a_server_that_stays_away_costs_a_warning_and_no_error(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "_FLUSH_SECONDS", 0.3)
    with contextlib.ExitStack() as away, open_run(tmp_path, parameters={"seed": 1}) as run:
        run.flush(30)
        away.enter_context(_away(run))
        run.log_metrics({"train/loss": 1.0}, 0)
        assert run.register("emotions") is None

    assert database.get_run(run.run_id).info.status == "RUNNING"
    assert f"python -m trainer.core.tracking sync {run.folder}" in caplog.text
    assert "training goes on" in caplog.text
    assert "hunter2" not in caplog.text
    assert len([record for record in caplog.records if "cannot deliver" in record.message]) == 1


def test_a_request_that_hangs_does_not_hold_the_end_of_the_run(database, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tracker, "_FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(courier, "_JOIN_SECONDS", 0.1)
    answer = threading.Event()
    with open_run(tmp_path) as run:
        run.flush(30)
        plain = run._store.apply
        monkeypatch.setattr(run._store, "apply", lambda folder, batch: (answer.wait(), plain(folder, batch)))
        run.log_metrics({"train/loss": 1.0}, 0)

    assert "tracking sync" in caplog.text
    assert database.get_run(run.run_id).info.status == "RUNNING"
    answer.set()
    run._courier._thread.join()
    run._spool.close()
    assert sync(run.folder) > 0
    assert database.get_run(run.run_id).info.status == "FINISHED"
    assert len(_history(database, run.run_id, "train/loss")) == 1


def test_a_long_upload_is_waited_for(database, tmp_path, monkeypatch):
    with open_run(tmp_path) as run:
        run.flush(30)
        plain = run._store.apply
        monkeypatch.setattr(run._store, "apply", lambda folder, batch: (time.sleep(0.5), plain(folder, batch)))
        (run.folder / artifacts.REPORT).write_text("<html>")
        run.log_artifact(artifacts.REPORT)
        assert run.flush(0.2)


def test_delivering_everything_again_changes_nothing(database, tmp_path, saved_model, monkeypatch):
    with open_run(tmp_path / "runs", parameters={"seed": 1}) as run:
        run.log_metrics({"test/macro_f1": 0.53, "train/loss": float("nan")}, 7)
        run.log_dataset("starter", "ab" * 32, "train", "trainer/data/starter", {"rows": 900})
        shutil.copytree(saved_model, run.folder / "model")
        run.log_model(run.folder / "model", 7)
        assert run.register("twice") == 1
        run.log_artifacts()
    before = database.get_run(run.run_id).to_dictionary()
    moved = tmp_path / "moved"
    shutil.move(run.folder, moved)
    (moved / "spool.offset").unlink()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path / "runs")

    assert sync(moved) == len((moved / "spool.jsonl").read_text().splitlines())

    assert not (moved / "spool.refused.jsonl").exists()
    assert len(_history(database, run.run_id, "test/macro_f1")) == 1
    assert len(_history(database, run.run_id, "train/loss")) == 1
    assert len(database.search_model_versions("name = 'twice'")) == 1
    assert repr(database.get_run(run.run_id).to_dictionary()) == repr(before)
    assert list((tmp_path / "runs").iterdir()) == []


# Which run


def test_under_mlflow_run_the_project_run_is_used(database, tmp_path, monkeypatch):
    made = database.create_run(database.create_experiment("elsewhere"))
    database.log_param(made.info.run_id, "seed", "'1'")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)

    with open_run(tmp_path, parameters={"seed": 1}) as run:
        assert "MLFLOW_RUN_ID" not in os.environ

    stored = database.get_run(made.info.run_id)
    assert run.run_id == made.info.run_id
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"seed": "'1'", "cfg.seed": "1"}
    assert database.get_experiment_by_name("emotions") is None


def test_the_experiment_is_the_given_one_else_that_of_the_environment(database, tmp_path, monkeypatch):
    def experiment(name=None):
        with open_run(tmp_path, experiment=name) as run:
            return database.get_experiment(database.get_run(run.run_id).info.experiment_id).name

    assert experiment("study") == "study"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", database.create_experiment("by id"))
    assert experiment() == "by id"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
    assert experiment() == "by name"
    database.delete_experiment(database.get_experiment_by_name("by name").experiment_id)
    with pytest.raises(TrackingError, match="experiment must be active, but got name='by name'"):
        experiment()


def test_resume_continues_the_same_run_and_mends_its_status(database, tmp_path):
    with pytest.raises(RuntimeError), open_run(tmp_path, parameters={"epochs": 2, "seed": 1}) as first:
        first.log_metrics({"train/loss": 2.0}, 0)
        raise RuntimeError("power")
    with open_run(tmp_path, resume=first.run_id, parameters={"epochs": 4, "seed": 1}) as second:
        assert database.get_run(first.run_id).info.status == "RUNNING"
        second.log_metrics({"train/loss": 1.0}, 1)

    stored = database.get_run(first.run_id)
    assert second.run_id == first.run_id
    assert stored.info.status == "FINISHED"
    assert artifacts.TAG_ERROR not in stored.data.tags
    assert stored.data.params == {"cfg.epochs": "2", "cfg.seed": "1"}
    assert stored.data.tags["cfg.epochs"] == "4"
    assert "cfg.seed" not in stored.data.tags
    assert [step for step, _, _ in _history(database, first.run_id, "train/loss")] == [0, 1]
    system_steps = [step for step, _, _ in _history(database, first.run_id, "system/cpu_utilization_percentage")]
    assert system_steps == sorted(set(system_steps))
    assert len(system_steps) >= 2


def test_resume_under_mlflow_run_points_from_the_new_run_to_the_old(database, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path) as first:
        raise KeyboardInterrupt
    made = database.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with open_run(tmp_path, resume=first.run_id) as second:
        pass

    project_run = database.get_run(made.info.run_id)
    assert second.run_id == first.run_id
    assert project_run.data.tags[artifacts.TAG_RESUMES] == first.run_id
    assert project_run.info.status == "FINISHED"
    assert database.get_run(first.run_id).info.status == "FINISHED"


def test_resume_delivers_what_the_killed_process_left_first(database, tmp_path):
    with open_run(tmp_path) as first:
        pass
    with Spool(first.folder) as spool:
        spool.append(first.run_id, "metrics", {"metrics": {"train/loss": 3.0}, "step": 5})
    with open_run(tmp_path, resume=first.run_id) as second:
        assert [step for step, _, _ in _history(database, first.run_id, "train/loss")] == [5]
        second.log_metrics({"train/loss": 2.0}, 6)

    assert [step for step, _, _ in _history(database, first.run_id, "train/loss")] == [5, 6]


def test_resume_of_an_unknown_or_deleted_run_is_an_error(database, tmp_path):
    with open_run(tmp_path) as run:
        pass
    database.delete_run(run.run_id)

    with (
        pytest.raises(TrackingError, match="must name a run that is not deleted"),
        open_run(tmp_path, resume=run.run_id),
    ):
        pass
    for unknown in ("0" * 32, "not a run"):
        with pytest.raises(TrackingError, match="must name an existing run"), open_run(tmp_path, resume=unknown):
            pass
    assert [folder.name for folder in tmp_path.iterdir() if folder.name in ("0" * 32, "not a run")] == []


# Reaching the server


def test_a_server_that_refuses_connections_at_the_start_is_an_error_without_its_password(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hunter2@127.0.0.1:{_free_port()}")

    with pytest.raises(TrackingError, match=r"tracking server must answer, but got uri='http://127") as raised:
        open_run(tmp_path).__enter__()
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert "MLFLOW_TRACKING_URI" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_silent_at_the_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "_START_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(TrackingError, match=r"no answer within 0.2 seconds"):
            open_run(tmp_path).__enter__()
    for thread in threading.enumerate():
        if thread.name == "tracking-probe":
            thread.join()


def test_importing_costs_no_slow_library():
    code = "import sys, trainer.core.tracking; print({'mlflow', 'numpy', 'torch', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_sync_of_a_folder_without_a_run_is_an_error(tmp_path, capsys):
    assert tracking.main(["sync", str(tmp_path / "typo")]) == 1
    assert "which has no spool" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


class _Server:
    """A real `mlflow server` on a free port of this machine, to be stopped and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        words = ["server", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        artifact_store = ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *words, *stores, *artifact_store],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(1200):
            if self._is_healthy():
                return
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _is_healthy(self):
        try:
            asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            asked.request("GET", "/health")
            return asked.getresponse().status == 200
        except OSError:
            return False
        finally:
            asked.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    one = _Server(folder)
    one.start()
    yield one
    one.stop()


@pytest.fixture
def client(server, monkeypatch):
    import mlflow

    if server.process is None:
        server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    return mlflow.MlflowClient(server.uri)


@pytest.mark.slow
def test_a_run_goes_on_while_its_server_is_away_and_loses_nothing(server, client, tmp_path, saved_model, caplog):
    with open_run(tmp_path, parameters={"seed": 1}) as run:
        run.log_metrics({"train/loss": 9.0}, 0)
        assert run.flush(60)
        server.stop()
        for step in range(1, 60):
            run.log_metrics({"train/loss": 1 / step, "train/learning_rate": step * 1e-5}, step)
        run.set_tags({"preset": "starter"})
        (run.folder / artifacts.CONFIG).write_text("{}")
        run.log_artifact(artifacts.CONFIG)
        run.log_dataset("starter", "ab" * 32, "train", "trainer/data/starter", {"rows": 900})
        run.log_metrics({"test/macro_f1": 0.5}, 60)
        run.log_model(saved_model, 60)
        _wait_for(lambda: "training goes on" in caplog.text)
        server.start()
        assert run.register("outage") == 1

    stored = client.get_run(run.run_id)
    assert "answers again" in caplog.text
    assert stored.info.status == "FINISHED"
    for name in ("train/loss", "train/learning_rate"):
        assert _history(client, run.run_id, name) == _spooled_history(run.folder, name)
    assert len(_history(client, run.run_id, "train/loss")) == 60
    assert stored.data.tags["preset"] == "starter"
    assert [file.path for file in client.list_artifacts(run.run_id)] == ["config.json"]
    assert stored.inputs.dataset_inputs[0].dataset.name == "starter"
    assert client.get_logged_model(stored.outputs.model_outputs[0].model_id).status == "READY"


@pytest.mark.slow
def test_what_a_lost_server_did_not_get_is_synced_later(server, client, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.setattr(tracker, "_FLUSH_SECONDS", 0.5)
    with open_run(tmp_path) as run:
        assert run.flush(60)
        server.stop()
        for step in range(20):
            run.log_metrics({"train/loss": 1 / (step + 1)}, step)

    assert f"python -m trainer.core.tracking sync {run.folder}" in caplog.text
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    assert tracking.main(["sync", str(run.folder)]) == 1
    assert "error: tracking server must answer" in capsys.readouterr().err

    server.start()
    assert tracking.main(["sync", str(tmp_path)]) == 0
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert _history(client, run.run_id, "train/loss") == _spooled_history(run.folder, "train/loss")
    assert sync(run.folder) == 0


_WRITER = """
import pathlib, sys
from trainer.core.tracking import open_run
with open_run(pathlib.Path(sys.argv[1])) as run:
    run.flush(60)
    for step in range(1_000_000):
        run.log_metrics({"train/loss": 1 / (step + 1)}, step)
        if step % 1000 == 0:
            run.flush(60)
        if step == 3000:
            print(run.run_id, flush=True)
"""


@pytest.mark.slow
def test_after_kill_9_sync_delivers_every_metric_once_and_the_run_is_killed(server, client, tmp_path, capsys):
    with subprocess.Popen([sys.executable, "-c", _WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as writer:
        run_id = writer.stdout.readline().strip()
        assert tracking.main(["sync", str(tmp_path)]) == 1
        assert "must belong to one process" in capsys.readouterr().err
        writer.kill()

    assert client.get_run(run_id).info.status == "RUNNING"
    assert tracking.main(["sync", str(tmp_path)]) == 0
    stored = client.get_run(run_id)
    expected = _spooled_history(tmp_path / run_id, "train/loss")
    assert len(expected) > 3000
    assert _history(client, run_id, "train/loss") == expected
    assert stored.info.status == "KILLED"
    assert "killed" in stored.data.tags[artifacts.TAG_ERROR]
    assert tracking.main(["sync", str(tmp_path)]) == 0


def _wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened in 30 seconds")
