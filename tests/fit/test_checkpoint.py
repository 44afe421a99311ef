"""Checkpoints stay whole whatever moment a process ends at."""

import pytest
import torch

from trainer.core.errors import ModelError
from trainer.fit.checkpoint import CheckpointStore

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3)}


def test_the_newest_state_comes_back_and_older_ones_go(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (3, 10, 7):
        store.save_state(step, {"step": step, "w": WEIGHTS["w"] + step})
    assert [path.name for path in store.folder.glob("step-*")] == ["step-7"]
    assert torch.equal(store.load_state()["w"], WEIGHTS["w"] + 7)


def test_a_state_cut_short_is_not_taken_for_one(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save_state(4, {"step": 4})
    partial = store.folder / ".partial-step-9"
    partial.mkdir()
    (partial / "state.pt").write_bytes(b"half")
    assert CheckpointStore(tmp_path).load_state() == {"step": 4}
    store.save_state(9, {"step": 9})
    assert store.newest_step() == 9


def test_best_weights_come_back_with_their_facts(tmp_path):
    store = CheckpointStore(tmp_path)
    with pytest.raises(ModelError, match="must hold the best weights"):
        store.load_best(5)
    store.save_best(5, WEIGHTS, {"dev/macro_f1": 0.5})
    weights, facts = store.load_best(5)
    assert torch.equal(weights["w"], WEIGHTS["w"])
    assert facts == {"dev/macro_f1": 0.5}


def test_random_states_belong_to_one_step_and_one_process(tmp_path):
    store = CheckpointStore(tmp_path)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    store.save_generators(2, 1, {"cpu": state})
    assert torch.equal(store.load_generators(2, 1)["cpu"], state)
    assert store.load_generators(2, 0) is None
    assert store.load_generators(3, 1) is None


def test_a_state_is_reduced_to_its_end(tmp_path):
    store = CheckpointStore(tmp_path)
    store.reduce()
    assert store.load_state() is None
    store.save_state(4, {"model": WEIGHTS, "pieces": WEIGHTS["w"], "progress": {"step": 4}})
    store.reduce()
    assert set(store.load_state()) == {"pieces", "progress"}
    assert [path.name for path in (store.folder / "step-4").iterdir()] == ["state.pt"]


def test_a_clean_start_has_no_state(tmp_path):
    store = CheckpointStore(tmp_path)
    assert store.load_state() is None
    assert store.newest_step() is None
