"""The whole command, stopped, killed and resumed, and on several processes."""

import os
import signal
import subprocess
import time
from types import SimpleNamespace

import numpy as np
import pytest
from train_helpers import client, only_run, predictions, runs_of

from tests import forked
from trainer import pipeline
from trainer.config import RunConfig, TrainConfig, parse
from trainer.core import artifacts, text_files
from trainer.core.settings import as_argv
from trainer.fit.step import Stepper
from trainer.train import main


def killed_in_step(words):
    steps, real = [], Stepper.step

    def step(self, *rows):
        steps.append(rows)
        if len(steps) == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *rows)

    Stepper.step = step
    return main(words)


def killed_at_the_end(words):
    real = text_files.write_json

    def write_json(path, content):
        if path.name == artifacts.OUTCOME:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path, content)

    text_files.write_json = write_json
    return main(words)


@pytest.fixture
def killed(base_settings, in_tmp, tracking_uri):
    """Run the command until it is killed; returns the id of its run."""

    def call(function, **settings):
        log = in_tmp / "killed.log"
        process = forked.start(log, function, as_argv(base_settings | {"output": in_tmp / "runs"} | settings))
        assert forked.wait(process) == -signal.SIGKILL, log.read_text()
        run = only_run(tracking_uri)
        assert run.info.status == "RUNNING"
        return run.info.run_id

    return call


class TestAKilledRun:
    """kill -9, then the same command with `resume`."""

    def assert_like_uninterrupted(self, tracking_uri, run_id, finished):
        run = only_run(tracking_uri)
        assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
        whole = finished.run.data.metrics
        scores = {name: whole[name] for name in whole if name.startswith(("test/", "dev/"))}
        assert {name: run.data.metrics[name] for name in scores} == scores
        steps = [point.step for point in client(tracking_uri).get_metric_history(run_id, "dev/loss")]
        assert steps == [5, 10, 15]  # each once, although the steps after the checkpoint were trained twice

    def test_it_continues_by_run_id_after_refusing_what_does_not_fit(
        self, train, killed, finished, tracking_uri, in_tmp, capsys
    ):
        run_id = killed(killed_in_step, checkpoint_steps=3)
        folder = in_tmp / "runs" / run_id
        assert (folder / "checkpoints" / "step-6").is_dir()

        assert train(resume=run_id, checkpoint_steps=3, learning_rate=2e-3) == 1
        assert "learning_rate: 0.001 then, 0.002 now" in " ".join(capsys.readouterr().err.split())
        assert train(resume="no-such-run", checkpoint_steps=3) == 1
        assert "no-such-run" in capsys.readouterr().err
        assert only_run(tracking_uri).info.status == "RUNNING"

        digests = (folder / artifacts.DATA).read_text()
        (folder / artifacts.DATA).write_text(digests.replace('"test": "', '"test": "0'))
        assert train(resume=run_id, checkpoint_steps=3) == 1
        assert "examples of test" in " ".join(capsys.readouterr().err.split())
        (folder / artifacts.DATA).write_text(digests)

        assert train(resume=run_id, checkpoint_steps=3) == 0
        self.assert_like_uninterrupted(tracking_uri, run_id, finished)
        _, mine = predictions(folder, "test")
        _, theirs = predictions(finished.folder, "test")
        np.testing.assert_array_equal(mine["logits"], theirs["logits"])

        assert train(resume=run_id, checkpoint_steps=3) == 1
        assert "`resume`" in " ".join(capsys.readouterr().err.split())
        assert train(resume="latest", checkpoint_steps=3) == 1
        assert "resume=latest" in " ".join(capsys.readouterr().err.split())
        assert only_run(tracking_uri).info.status == "FINISHED"

    def test_it_continues_as_the_latest_when_killed_before_its_last_file(self, killed, finished, tracking_uri, in_tmp):
        run_id = killed(killed_at_the_end)
        (in_tmp / "runs" / run_id / artifacts.ENVIRONMENT).unlink()  # as after a kill between two files at the start
        assert main(as_argv({"output": in_tmp / "runs", "resume": "latest"})) == 0  # the run knows its settings
        self.assert_like_uninterrupted(tracking_uri, run_id, finished)
        run = only_run(tracking_uri)
        models = client(tracking_uri).search_logged_models([run.info.experiment_id])
        assert len(models) == 1


def test_sigterm_ends_the_run_as_killed(base_settings, in_tmp, tracking_uri):
    log = in_tmp / "stopped.log"
    settings = {"output": in_tmp / "runs", "epochs": 5000, "checkpoint_steps": 1}
    process = forked.start(log, main, as_argv(base_settings | settings))
    while not list(in_tmp.glob("runs/*/checkpoints/step-*")):
        assert forked.wait(process, 0.05) is None, log.read_text()
    os.kill(process.pid, signal.SIGTERM)
    assert forked.wait(process) == 128 + signal.SIGTERM
    assert "Traceback" not in log.read_text()
    run = only_run(tracking_uri)
    assert f"resume={run.info.run_id}" in "".join(log.read_text().split())
    assert run.info.status == "KILLED"
    assert "train/loss" in run.data.metrics
    assert "test/macro_f1" not in run.data.metrics


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def test_only_the_main_process_reads_the_run_to_resume(tmp_path, monkeypatch):
    """Another machine of the same run has no folder of it."""
    answers = iter([None, ("a run", str(tmp_path))])
    worker = SimpleNamespace(is_main=False, broadcast=lambda _: next(answers))
    monkeypatch.setattr(pipeline, "open_context", lambda *_: worker)
    resumed = TrainConfig(run=RunConfig(resume="a run", seed=7))
    monkeypatch.setattr(pipeline, "from_main_process", lambda _: resumed)
    monkeypatch.setenv("RANK", "1")
    config = parse(["--resume", "a run", "--output", str(tmp_path / "empty")])
    with pipeline.open_training(config) as run:
        assert (run.tracker.run_id, run.folder, run.config) == ("a run", tmp_path, resumed)


@pytest.mark.slow
def test_two_processes_end_with_their_launcher_and_continue(program, train, in_tmp, tracking_uri):
    settings = {"epochs": 8, "checkpoint_steps": 1, "processes": 2}
    launcher = subprocess.Popen(
        program("-m", "trainer.train", **settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(in_tmp.glob("runs/*/checkpoints/step-*")), launcher)
    launcher.kill()
    launcher.communicate()
    for _ in range(600):  # the workers notice, and close their run
        if only_run(tracking_uri).info.status == "KILLED":
            break
        time.sleep(0.1)
    run_id = only_run(tracking_uri).info.run_id
    assert not (in_tmp / "runs" / run_id / artifacts.OUTCOME).exists()
    if killed == "torchrun":  # the rest is the same
        return
    assert train(**settings, resume=run_id) == 0
    run = only_run(tracking_uri)
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert "test/macro_f1" in run.data.metrics


@pytest.mark.slow
def test_two_processes_end_like_one(train, tracking_uri, in_tmp, monkeypatch):
    settings = {"dropout": 0.0, "epochs": 2, "batch_size": 15}
    assert train(**settings) == 0
    (alone,) = runs_of(tracking_uri)
    assert train(**settings, processes=2, output=in_tmp / "two") == 0
    (together,) = [run for run in runs_of(tracking_uri) if run.info.run_id != alone.info.run_id]
    assert together.info.status == "FINISHED"
    for name in ("train/loss", "train/grad_norm", "dev/loss", "dev/macro_f1", "test/macro_f1", "test/ece"):
        assert together.data.metrics[name] == pytest.approx(alone.data.metrics[name], abs=1e-3, rel=1e-3), name
    logits = [
        predictions(in_tmp / output / run.info.run_id, "test")[1]["logits"]
        for output, run in (("runs", alone), ("two", together))
    ]
    np.testing.assert_allclose(*logits, atol=1e-3)
