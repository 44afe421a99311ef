"""The loop: its result depends on no division of the work, and a kill loses nothing."""

import json
import signal

import numpy as np
import pytest
import tiny_loop
import torch
from tiny_loop import Silent, build, make_model, run

from tests import forked
from trainer.core.errors import ModelError
from trainer.fit.distributed import open_context
from trainer.fit.inference import predict_logits
from trainer.fit.progress import TrainingProgress
from trainer.model.optimizations.vocabulary import prune_vocabulary

WITHOUT_DEV = {"stop_fraction": 0.5, "log_steps": 1, "epochs": 3}
RESUMABLE = {"checkpoint_steps": 4, "ema_decay": 0.9}


@pytest.fixture(scope="module")
def resumable(splits, tmp_path_factory):
    """The result and loop of an uninterrupted run of the RESUMABLE settings."""
    return run(make_model(), splits, tmp_path_factory.mktemp("whole"), **RESUMABLE)


def parameters_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_training_learns_and_returns_the_best_weights(tmp_path, splits):
    fitted, loop = run(make_model(), splits, tmp_path, epochs=10)
    losses, scores = (loop.tracker.series(name) for name in ("train/loss", "dev/macro_f1"))
    assert losses[-1] < losses[0] / 2
    assert max(scores) > 0.6
    assert fitted.best_step == (int(np.argmax(scores)) + 1) * loop.batches.steps_per_epoch
    assert loop.progress.best_score == max(scores)


def test_a_training_counts_what_it_takes(tmp_path, splits):
    fitted, loop = run(make_model(), splits, tmp_path, epochs=2)
    costs = fitted.costs
    assert costs["train/samples"] == 2 * len(splits["train"])
    assert costs["train/steps"] == fitted.steps
    assert costs["train/seconds"] > 0
    norms = loop.tracker.series("train/grad_norm")
    assert (costs["train/mean_grad_norm"], costs["train/max_grad_norm"]) == (np.mean(norms), max(norms))


def test_what_an_older_checkpoint_did_not_count_is_absent():
    restored = TrainingProgress.restored({"step": 5})
    assert restored.costs() == {"train/steps": 5.0}


def test_a_loss_that_is_not_finite_names_step_and_examples(tmp_path, splits):
    class Broken(Silent):
        def on_log(self, step, metrics):
            with torch.no_grad():
                loop.model.head.bias.fill_(float("nan"))

    loop = build(make_model(), splits, tmp_path, open_context("fp32", seed=7))
    examples = loop.batches.epoch(0)[2]
    with pytest.raises(ModelError, match=rf"nan.*step 3.* r{examples[0]}, .* 11 more"):
        loop.run(Broken())


def test_the_norm_logged_is_the_one_before_clipping(tmp_path, splits):
    runs = [
        run(make_model(dropout=0.0), splits, tmp_path / str(norm), max_grad_norm=norm, epochs=1, log_steps=1)[1]
        for norm in (0.0, 0.01)
    ]
    free, clipped = (loop.tracker.series("train/grad_norm")[0] for loop in runs)
    assert free == pytest.approx(clipped, rel=1e-5)
    assert free > 0.01


def test_the_final_logits_are_float32_in_any_training_precision(tmp_path, splits):
    fitted, loop = run(make_model(), splits, tmp_path, precision="bf16", epochs=1)
    bare = make_model()
    bare.load_state_dict(fitted.model.state_dict())
    bare.eval()
    exact = predict_logits(bare, splits["dev"], loop.context, max_tokens=4096, exact=True)
    np.testing.assert_array_equal(fitted.dev_logits, exact)
    rough = predict_logits(fitted.model, splits["dev"], loop.context, max_tokens=4096, exact=False)
    assert not np.array_equal(rough, exact)


def test_patience_ends_training_early(tmp_path, splits):
    _, loop = run(make_model(), splits, tmp_path, epochs=30, patience=2, learning_rate=1e-2)
    assert loop.progress.step < loop.batches.total_steps
    assert loop.progress.evaluations_since_best == 2


def test_the_average_of_weights_is_evaluated_and_kept(tmp_path, splits):
    fitted, loop = run(make_model(), splits, tmp_path, ema_decay=0.9, epochs=2)
    assert fitted.best_step == fitted.steps
    assert all(torch.equal(a, b) for a, b in zip(fitted.model.parameters(), loop.average.averages, strict=True))
    plain, _ = run(make_model(), splits, tmp_path / "plain", epochs=2)
    assert not np.allclose(plain.dev_logits, fitted.dev_logits)


def test_evaluations_are_spread_over_the_epoch(tmp_path, splits):
    _, loop = run(make_model(), splits, tmp_path, evals_per_epoch=3, epochs=2)
    assert [step for step, values in loop.tracker.points if "dev/macro_f1" in values] == [2, 4, 6, 8, 10, 12]


class TestWithoutDev:
    """Dev is trained on: nothing is evaluated and the last weights are kept."""

    @pytest.fixture
    def only_train(self, splits):
        return {"train": splits["train"]}

    def test_it_stops_within_the_schedule_of_the_whole_training(self, tmp_path, splits, only_train):
        _, whole = run(make_model(), splits, tmp_path / "a", epochs=3, log_steps=1)
        fitted, part = run(make_model(), only_train, tmp_path / "b", **WITHOUT_DEV)
        assert (fitted.steps, fitted.best_step, fitted.schedule_steps) == (9, 9, 18)
        for name in ("train/learning_rate", "train/loss"):
            assert part.tracker.series(name) == whole.tracker.series(name)[:9]
        assert fitted.dev_logits is None
        assert not [name for _, values in part.tracker.points for name in values if name.startswith("dev/")]

    def test_the_smallest_fraction_is_one_step(self, tmp_path, only_train):
        fitted, _ = run(make_model(), only_train, tmp_path, **(WITHOUT_DEV | {"stop_fraction": 1e-9}))
        assert fitted.steps == 1

    @pytest.mark.parametrize("ema_decay", [0.0, 0.9])
    def test_the_last_weights_are_kept(self, tmp_path, only_train, ema_decay):
        settings = WITHOUT_DEV | {"epochs": 1, "ema_decay": ema_decay}
        loop = build(make_model(), only_train, tmp_path, open_context("fp32", seed=7), **settings)
        last = []
        loop.checkpoints.save = lambda *_, **__: last.append(
            [part.detach().clone() for part in loop.model.parameters()]
        )
        fitted = loop.run(Silent())
        expected = loop.average.averages if loop.average else last[-1]
        assert all(torch.equal(a, b) for a, b in zip(fitted.model.parameters(), expected, strict=True))
        assert not ema_decay or not torch.equal(expected[0], last[-1][0])

    @pytest.mark.parametrize("stop_at", [3, 9])
    def test_it_continues_where_it_stopped(self, tmp_path, only_train, stop_at):
        class Stop(Silent):
            def on_log(self, step, metrics):
                if step == stop_at:
                    raise KeyboardInterrupt

        whole, _ = run(make_model(), only_train, tmp_path / "whole", **WITHOUT_DEV, **RESUMABLE)
        tiny_loop.reset_accelerate()
        model = make_model()  # before the context, as in `run`: the seed of the context is that of dropout
        loop = build(model, only_train, tmp_path / "again", open_context("fp32", seed=7), **WITHOUT_DEV, **RESUMABLE)
        with pytest.raises(KeyboardInterrupt):
            loop.run(Stop())
        again, _ = run(make_model(), only_train, tmp_path / "again", **WITHOUT_DEV, **RESUMABLE)
        assert parameters_equal(again.model, whole.model)


class TestResume:
    """A run continues from its checkpoints."""

    @pytest.mark.parametrize("kill_at", [3, 9, 14])
    def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(self, tmp_path, splits, resumable, kill_at):
        log = tmp_path / "killed.log"
        killed = forked.start(log, tiny_loop.main, str(tmp_path / "killed"), kill_at, RESUMABLE)
        assert forked.wait(killed) == -signal.SIGKILL, log.read_text()
        assert not (tmp_path / "killed" / "result.json").exists()
        again, loop = run(make_model(seed=0 if kill_at == 3 else 99), splits, tmp_path / "killed", **RESUMABLE)
        whole, uninterrupted = resumable
        np.testing.assert_array_equal(again.dev_logits, whole.dev_logits)
        assert parameters_equal(again.model, whole.model)
        assert loop.tracker.series("dev/macro_f1")[-1] == uninterrupted.tracker.series("dev/macro_f1")[-1]

    def test_a_checkpoint_of_other_tokens_is_refused(self, tmp_path, splits):
        run(make_model(), splits, tmp_path, epochs=1)
        trimmed = make_model()
        prune_vocabulary(trimmed.encoder, np.arange(30))
        with pytest.raises(ModelError, match="other tokens"):
            run(trimmed, splits, tmp_path, epochs=1)

    def test_a_pruned_state_returns_the_end_of_training(self, tmp_path, splits, resumable):
        whole, _ = run(make_model(), splits, tmp_path, **RESUMABLE)
        store = tiny_loop.CheckpointStore(tmp_path)
        before = sum(path.stat().st_size for path in store.folder.glob("step-*/*"))
        store.prune_to_final()
        assert sum(path.stat().st_size for path in store.folder.glob("step-*/*")) < before / 5
        again, resumed = run(make_model(seed=99), splits, tmp_path, **RESUMABLE)
        np.testing.assert_array_equal(again.dev_logits, whole.dev_logits)
        assert (again.best_step, again.steps) == (whole.best_step, whole.steps)
        assert json.dumps(again.history) == json.dumps(whole.history)
        assert again.costs == whole.costs
        assert resumed.tracker.points == []
