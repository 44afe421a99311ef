"""Several processes save and load one state, with and without a shared file system."""

import json
import signal
import socket

import numpy as np
import pytest
import tiny_loop
import torch
from safetensors.torch import load_file
from tiny_loop import make_model, run

from tests import forked

SETTINGS = {"checkpoint_steps": 4, "ema_decay": 0.9, "epochs": 2}


def test_the_files_are_those_that_earlier_versions_wrote_and_read(tmp_path, splits):
    """The layout of commit 8e3e5c1: another one would make older runs impossible to resume."""
    run(make_model(), splits, tmp_path, **SETTINGS)
    folder = tmp_path / "checkpoints"
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    best = next(folder.glob("best-*"))
    assert paths == [
        *(f"{best.name}/facts.json", f"{best.name}/model.safetensors"),
        *("generators/12-0.pt", "generators/8-0.pt", "step-12/state.pt"),
    ]
    state = torch.load(folder / "step-12" / "state.pt", weights_only=True)
    assert list(state) == ["model", "optimizer", "schedule", "pieces", "averages", "micro_batch_size", "progress"]
    assert set(state["progress"]) == {
        *("step", "evaluations", "best_step", "best_score", "evaluations_since_best", "stopped", "history"),
        *("samples", "seconds", "joules"),
    }
    assert set(torch.load(folder / "generators" / "12-0.pt", weights_only=True)) == {"cpu"}
    assert load_file(best / "model.safetensors").keys() == state["model"].keys() == make_model().state_dict().keys()


def two_processes(tmp_path, folders, kill_at, settings):
    """Exit statuses and logs of two processes of one run."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    logs = [tmp_path / f"{rank}.log" for rank in (0, 1)]
    processes = [
        forked.start(logs[rank], tiny_loop.worker, rank, port, str(folders[rank]), kill_at, settings) for rank in (0, 1)
    ]
    return [forked.wait(process) for process in processes], "\n".join(log.read_text() for log in logs)


def test_a_run_resumes_where_the_processes_share_no_file_system(tmp_path, splits):
    together, apart = [[tmp_path / name / str(rank) for rank in (0, 1)] for name in ("together", "apart")]
    statuses, logs = two_processes(tmp_path, together, None, SETTINGS)
    assert statuses == [0, 0], logs
    statuses, logs = two_processes(tmp_path, apart, 9, SETTINGS)
    assert statuses == [-signal.SIGKILL] * 2, logs
    assert not (apart[1] / "checkpoints").exists()
    statuses, logs = two_processes(tmp_path, apart, None, SETTINGS)
    assert statuses == [0, 0], logs
    whole, resumed = (json.loads((folder[0] / "result.json").read_text()) for folder in (together, apart))
    assert resumed["logits"] == whole["logits"]
    assert resumed["dev/macro_f1"][-1] == whole["dev/macro_f1"][-1]


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("bert", {"batch_size": 17, "micro_batch_size": 4}),
        ("deberta", {"tokens_per_batch": 100, "micro_batch_size": 4}),
    ],
)
def test_two_processes_train_like_one(tmp_path, splits, architecture, settings):
    alone, loop = run(make_model(dropout=0.0, architecture=architecture), splits, tmp_path / "one", **settings)
    given = settings | {"dropout": 0.0, "architecture": architecture}
    statuses, logs = two_processes(tmp_path, [tmp_path / "two"] * 2, None, given)
    assert statuses == [0, 0], logs
    together = json.loads((tmp_path / "two" / "result.json").read_text())
    np.testing.assert_allclose(together["logits"], alone.dev_logits, atol=5e-4, rtol=1e-3)
    for name in ("train/loss", "train/grad_norm", "dev/macro_f1"):
        np.testing.assert_allclose(together[name], loop.tracker.series(name), atol=5e-4, rtol=1e-3, err_msg=name)
