"""Bad input is refused before any training, and the run is FAILED with the reason."""

import shutil
import socket
import subprocess
from collections import namedtuple

import pytest
from train_helpers import POSITIONS, read_split, runs_of, write_split

from trainer.core import artifacts
from trainer.core.settings import as_argv
from trainer.fit.step import Stepper
from trainer.train import main


@pytest.fixture
def refused(train, capsys, tracking_uri):
    """Run the command with settings that it must refuse; returns its message, and its run where one was opened."""

    def call(**settings):
        try:
            status = train(**settings)
        except SystemExit as stop:
            status = stop.code
        error = " ".join(capsys.readouterr().err.replace("│", " ").split())
        assert status in (1, 2), error
        assert "Traceback" not in error
        runs = runs_of(tracking_uri)
        return error, runs[0] if runs else None

    return call


def change(split, **cells):
    """Give the last row of a split other cells."""

    def damage(folder):
        path = folder / f"{split}.csv"
        rows = read_split(path)
        rows[-1] |= cells
        write_split(path, rows)

    return damage


def remove_dev(folder):
    (folder / "dev.csv").unlink()


def rename_joy(name):
    def damage(folder):
        for path in folder.glob("*.csv"):
            path.write_text(path.read_text().replace("joy", name))

    return damage


class TestSettings:
    """Refused before a run is opened: `mlflow run` marks its own run FAILED by the exit status."""

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"learning_rat": 1}, "`learning_rate`"),
            ({"learning_rate": -1}, "`learning_rate` must be above 0 and at most 1, got -1."),
            ({"epochs": 0}, "`epochs` must be in [1, 100000], got 0."),
            ({"epochs": "many"}, "`epochs` must be a whole number, got many."),
            ({"register": "yes"}, "`register` must be true or false, got yes."),
            ({"loss": "focl"}, "`focal`"),
            ({"preset": "startr"}, "`starter`"),
            ({"threshold_folds": 2}, "`threshold_folds` must be in [3, 20], got 2."),
            ({"threshold_policy": "best"}, "threshold_policy"),
            ({"loss": "bce", "gamma": 2}, "`gamma` has no effect with loss=bce"),
            ({"loss": "combined", "class_weights": "none", "effective_number_beta": 0.9}, "class_weights=none"),
            ({"restarts": 3}, "`restarts` has no effect with schedule=linear"),
            ({"tokens_per_batch": 64}, "`batch_size` has no effect with tokens_per_batch=64"),
            ({"model": "typo"}, "`model` must be"),
            ({"loss": "weighted_bce", "class_weights": "none.json"}, "`class_weights` must be a readable JSON file"),
            ({"output": "/dev/null"}, "`output` must be a folder that can be written to, got /dev/null"),
            ({"processes": "two"}, "`processes` must be `auto` or a number from 1 to 1024, got two."),
        ],
    )
    def test_is_refused(self, refused, settings, message):
        error, run = refused(**settings)
        assert message in error
        assert run is None

    def test_a_word_without_a_name_is_refused(self, capsys):
        assert main(["epochs=1"]) == 1
        assert "got epochs=1" in " ".join(capsys.readouterr().err.split())

    def test_a_name_given_twice_is_refused(self, capsys):
        assert main(as_argv({"epochs": 1}) * 2) == 1
        assert "`epochs` must be given once" in " ".join(capsys.readouterr().err.split())


def assert_failed(error, run, message):
    assert message in error
    assert run.info.status == "FAILED"
    assert message in " ".join(run.data.tags[artifacts.TAG_ERROR].split())
    assert not [name for name in run.data.metrics if name.startswith(("train/", "dev/", "test/"))]


class TestData:
    """Refused inside the run, which keeps the reason. tests/data covers the readers."""

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (remove_dev, "no file for dev"),
            (change("dev", labels="rage"), "dev.csv:41: unknown label 'rage'"),
            (rename_joy("labels"), "got labels."),
            (rename_joy("(" * 201), "1 to 200 characters"),
        ],
    )
    def test_is_refused(self, refused, own_data, damage, message):
        damage(own_data)
        assert_failed(*refused(dataset=own_data), message)

    @pytest.mark.slow
    def test_is_reported_once_by_two_processes(self, program, own_data, tracking_uri):
        change("dev", labels="rage")(own_data)
        command = program("-m", "trainer.train", processes=2, dataset=own_data)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        error = " ".join(done.stderr.split())
        assert done.returncode == 1
        assert error.count("dev.csv:41: unknown label 'rage'") == 1
        assert_failed(error, *runs_of(tracking_uri), "unknown label 'rage'")

    def test_too_few_dev_examples_are_refused(self, refused, own_data):
        write_split(own_data / "dev.csv", read_split(own_data / "dev.csv")[:6])
        assert_failed(*refused(dataset=own_data, threshold_folds=7), "at least 7")


class TestEncoder:
    def test_a_missing_folder_is_refused_before_a_run_is_opened(self, refused, tmp_path):
        error, run = refused(model=tmp_path / "none")
        assert f"{tmp_path.name}/none" in error
        assert run is None

    def test_a_text_longer_than_the_positions_is_refused(self, refused):
        assert_failed(*refused(max_length=POSITIONS + 1), f"`max_length` must be at most {POSITIONS} ")


class TestMachine:
    def test_a_full_disk_is_refused(self, refused, monkeypatch):
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1000, 1000))
        assert_failed(*refused(), "has 0 MiB free")

    def test_a_server_that_does_not_answer_is_refused(self, refused, monkeypatch, in_tmp):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        error, run = refused()
        assert f"http://127.0.0.1:{port}" in error
        assert "secret" not in error
        assert run is None
        assert not (in_tmp / "runs").exists()

    def test_more_processes_than_gpus_are_refused(self, refused, monkeypatch):
        import torch

        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        error, run = refused(processes=3)
        assert "`processes` must be at most the number of GPUs, 2, got 3." in error
        assert run is None


def test_a_loss_that_is_not_finite_fails_the_run_and_says_where(refused, monkeypatch):
    def broken(stepper, batch, rows_of_step):
        loss = real(stepper, batch, rows_of_step)
        return loss * float("nan") if stepper.model.training else loss

    real = Stepper._backward
    monkeypatch.setattr(Stepper, "_backward", broken)
    monkeypatch.setattr(Stepper, "dry_run", lambda *_: None)
    assert_failed(*refused(), "step 1, on the examples train")
