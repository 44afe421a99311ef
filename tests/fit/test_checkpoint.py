"""Checkpoints stay complete at whatever moment a process ends."""

import pytest
import torch

from trainer.core.errors import ModelError
from trainer.fit.checkpoint import CheckpointStore

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path)


def test_only_the_newest_state_stays(store):
    for step in (3, 10, 7):
        store.save_state(step, {"step": step, "w": WEIGHTS["w"] + step})
    assert [path.name for path in store.folder.glob("step-*")] == ["step-7"]
    assert torch.equal(store.load_state()["w"], WEIGHTS["w"] + 7)


def test_a_partial_state_is_ignored(store):
    store.save_state(4, {"step": 4})
    partial = store.folder / ".partial-step-9"
    partial.mkdir()
    (partial / "state.pt").write_bytes(b"half")
    assert store.load_state() == {"step": 4}
    store.save_state(9, {"step": 9})
    assert store.newest_step() == 9


@pytest.mark.parametrize("name", ["step-4/state.pt", "best-4/model.safetensors", "best-4/facts.json"])
@pytest.mark.parametrize("content", [b"", b"damaged" * 100])
def test_a_damaged_checkpoint_is_named(store, name, content):
    store.save_state(4, {"step": 4})
    store.save_best(4, WEIGHTS, {"score": 0.5})
    (store.folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"Cannot read the checkpoint .*/{name.partition('/')[0]}"):
        store.load_state() if name.startswith("step") else store.load_best(4)


def test_best_weights_are_loaded_with_their_facts(store):
    with pytest.raises(ModelError, match="step 5"):
        store.load_best(5)
    store.save_best(5, WEIGHTS, {"dev/macro_f1": 0.5})
    weights, facts = store.load_best(5)
    assert torch.equal(weights["w"], WEIGHTS["w"])
    assert facts == {"dev/macro_f1": 0.5}


def test_best_weights_stay_until_a_state_names_better_ones(store):
    for step in (6, 12):
        store.save_best(step, {"w": torch.full((1,), float(step))}, {})
    assert store.load_best(6)[0]["w"] == 6  # a kill before the state of step 12 leaves the best of the older state
    store.keep_best(12)
    assert store.load_best(12)[0]["w"] == 12
    with pytest.raises(ModelError, match="step 6"):
        store.load_best(6)


def test_random_states_are_kept_by_step_and_rank(store):
    torch.manual_seed(3)
    states = [{"cpu": torch.get_rng_state()}, {"cpu": torch.rand(4)}]
    store.save_rng_states(2, states)
    found = store.load_rng_states(2)
    assert sorted(found) == [0, 1]
    assert all(torch.equal(found[rank]["cpu"], states[rank]["cpu"]) for rank in (0, 1))
    assert store.load_rng_states(3) == {}
    store.save_state(2, {})
    store.save_rng_states(3, states)
    assert sorted(store.load_rng_states(2)) == [0, 1]  # a kill before the state of step 3 still needs these
    store.save_state(3, {})
    store.save_rng_states(4, states)
    assert store.load_rng_states(2) == {}


def test_a_pruned_state_has_no_weights(store):
    store.prune_to_final()
    assert store.load_state() is None
    store.save_state(4, {"model": WEIGHTS, "pieces": WEIGHTS["w"], "progress": {"step": 4}})
    store.prune_to_final()
    assert set(store.load_state()) == {"pieces", "progress"}
    assert [path.name for path in (store.folder / "step-4").iterdir()] == ["state.pt"]


def test_a_new_run_has_no_state(store):
    assert (store.load_state(), store.newest_step()) == (None, None)


def test_a_full_disk_is_reported_with_the_way_to_resume(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match=r"No space left.* resume=latest"):
        store.save_state(1, {"step": 1})
    assert store.newest_step() is None
