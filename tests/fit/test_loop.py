"""The loop: what it computes does not depend on how the work is cut, and a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from tiny import Silent, build, make_examples, make_model, run

from tests import forked
from trainer.core.errors import ModelError, SettingsError
from trainer.fit.checkpoint import CheckpointStore
from trainer.fit.config import FitConfig
from trainer.fit.distributed import open_session
from trainer.fit.inference import predict_logits
from trainer.model.optimizations.vocabulary import trim_vocabulary

BY_PIECES = {"tokens_per_batch": 48, "micro_batch_size": 16, "log_steps": 1}
ONLY_TRAIN = {"share": 0.5, "log_steps": 1, "epochs": 3}
RESUMABLE = {"checkpoint_steps": 4, "ema_decay": 0.9}
HERE = Path(__file__).parent


@pytest.fixture
def examples():
    return {"train": make_examples(96, 1), "dev": make_examples(48, 2)}


@pytest.fixture(autouse=True)
def fresh_state():
    """Accelerate keeps one state per process; each test has its own."""
    yield
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def test_training_learns_and_returns_the_best_weights(tmp_path, examples):
    fitted, loop = run(make_model(), examples, tmp_path, epochs=12)
    losses = loop.tracker.series("train/loss")
    scores = loop.tracker.series("dev/macro_f1")
    assert losses[-1] < losses[0] / 2
    assert max(scores) > 0.6
    assert fitted.best_step == (int(np.argmax(scores)) + 1) * loop.plan.steps_per_epoch
    again = loop.progress.best_score
    assert again == max(scores)


def test_micro_batches_do_not_change_the_result(tmp_path, examples):
    whole, _ = run(make_model(dropout=0.0), examples, tmp_path / "a", micro_batch_size=16)
    AcceleratorState._reset_state()
    parts, _ = run(make_model(dropout=0.0), examples, tmp_path / "b", micro_batch_size=3)
    np.testing.assert_allclose(whole.dev_logits, parts.dev_logits, atol=2e-4)


def test_memory_that_runs_out_halves_the_micro_batch_and_keeps_the_gradient(tmp_path, examples):
    expected, _ = run(make_model(dropout=0.0), examples, tmp_path / "a")
    AcceleratorState._reset_state()
    model = make_model(dropout=0.0)
    forward = model.forward

    def out_of_memory_above_five(input_ids, attention_mask):
        if model.training and len(input_ids) > 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(input_ids, attention_mask)

    model.forward = out_of_memory_above_five
    fitted, loop = run(model, examples, tmp_path / "b")
    assert loop.stepper.micro_batch_size == 4
    np.testing.assert_allclose(fitted.dev_logits, expected.dev_logits, atol=2e-4)


class TestTokensPerBatch:
    """Steps of so many pieces: 3 to 12 of them in a row here."""

    def test_every_example_counts_alike(self, tmp_path, examples):
        """The gradients of an epoch without updates add up to the gradient of the mean over all examples."""
        session = open_session("fp32", seed=7)
        loop = build(
            make_model(dropout=0.0), examples, tmp_path, session, learning_rate=1e-12, max_grad_norm=0.0, **BY_PIECES
        )
        gradient = []
        loop.stepper.optimizer.optimizer.register_step_pre_hook(
            lambda *_: gradient.append(loop.model.head.bias.grad.clone())
        )
        loop.stepper.model.train()
        plan = loop.plan.epoch(0)
        assert len({len(rows) for rows in plan}) > 3
        for rows in plan:
            loop.stepper.step(examples["train"], rows)
        whole = examples["train"].batch(np.arange(96), session.device)
        logits = loop.model(whole.input_ids, whole.attention_mask)
        (loop.loss_function(logits, whole.labels, whole.observed) / 96).backward()
        torch.testing.assert_close(sum(gradient) / len(gradient), loop.model.head.bias.grad)

    def test_memory_that_runs_out_halves_the_pieces_of_a_pass(self, tmp_path, examples):
        model = make_model(dropout=0.0)
        forward, seen = model.forward, []

        def out_of_memory_above_24_pieces(input_ids, attention_mask):
            if model.training and input_ids.numel() > 24:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            seen.append(input_ids.numel())
            return forward(input_ids, attention_mask)

        model.forward = out_of_memory_above_24_pieces
        fitted, loop = run(model, examples, tmp_path / "a", **BY_PIECES)
        AcceleratorState._reset_state()
        expected, _ = run(make_model(dropout=0.0), examples, tmp_path / "b", **BY_PIECES)
        assert loop.stepper.micro_batch_size == 2  # of the longest rows, 12 pieces each
        assert max(seen) > 20
        np.testing.assert_allclose(fitted.dev_logits, expected.dev_logits, atol=2e-4)

    def test_the_loss_logged_is_the_mean_over_examples(self, tmp_path, examples):
        session = open_session("fp32", seed=7)
        loop = build(make_model(dropout=0.0), examples, tmp_path, session, epochs=1, learning_rate=1e-12, **BY_PIECES)
        loop.run(Silent())
        logged = loop.tracker.series("train/loss")
        mean = sum(len(rows) * loss for rows, loss in zip(loop.plan.epoch(0), logged, strict=True)) / 96
        whole = examples["train"].batch(np.arange(96), session.device)
        with torch.no_grad():
            logits = make_model(dropout=0.0)(whole.input_ids, whole.attention_mask)
        assert mean == pytest.approx(float(loop.loss_function(logits, whole.labels, whole.observed)) / 96, rel=1e-4)


def test_a_model_too_large_for_one_example_says_so(tmp_path, examples):
    model = make_model()
    model.forward = lambda *_: (_ for _ in ()).throw(RuntimeError("CUDA out of memory."))
    with pytest.raises(ModelError, match="gradient_checkpointing"):
        run(model, examples, tmp_path)


def test_other_runtime_errors_pass_through(tmp_path, examples):
    model = make_model()
    model.forward = lambda *_: (_ for _ in ()).throw(RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        run(model, examples, tmp_path)


def test_a_loss_that_is_not_finite_stops_and_names_step_and_rows(tmp_path, examples):
    class Broken(Silent):
        def update(self, step, metrics):
            with torch.no_grad():
                loop.model.head.bias.fill_(float("nan"))

    session = open_session("fp32", seed=7)
    loop = build(make_model(), examples, tmp_path, session)
    with pytest.raises(ModelError, match=r"loss=nan at step=3, on rows \['r\d+'"):
        loop.run(Broken())


def test_the_norm_logged_is_the_one_before_clipping(tmp_path, examples):
    _, free = run(make_model(dropout=0.0), examples, tmp_path / "a", max_grad_norm=0.0, epochs=1, log_steps=1)
    AcceleratorState._reset_state()
    _, clipped = run(make_model(dropout=0.0), examples, tmp_path / "b", max_grad_norm=0.01, epochs=1, log_steps=1)
    first_free, first_clipped = (loop.tracker.series("train/grad_norm")[0] for loop in (free, clipped))
    assert first_free == pytest.approx(first_clipped, rel=1e-5)
    assert first_free > 0.01


def test_the_final_logits_are_float32_whatever_the_precision_of_training(tmp_path, examples):
    fitted, loop = run(make_model(), examples, tmp_path, precision="bf16", epochs=1)
    bare = make_model()
    bare.load_state_dict(fitted.model.state_dict())
    bare.eval()
    session = loop.session
    exact = predict_logits(bare, examples["dev"], session, max_tokens=4096, exact=True)
    np.testing.assert_array_equal(fitted.dev_logits, exact)
    rough = predict_logits(fitted.model, examples["dev"], session, max_tokens=4096, exact=False)
    assert not np.array_equal(rough, exact)


def test_best_weights_stay_until_a_state_knows_of_better_ones(tmp_path):
    store = CheckpointStore(tmp_path)
    for step in (6, 12):
        store.save_best(step, {"w": torch.full((1,), float(step))}, {})
    assert store.load_best(6)[0]["w"] == 6  # killed before the state of step 12: the older state still finds its best
    store.keep_best(12)
    assert store.load_best(12)[0]["w"] == 12
    with pytest.raises(ModelError, match="step=6"):
        store.load_best(6)


def test_a_checkpoint_of_other_pieces_is_refused(tmp_path, examples):
    run(make_model(), examples, tmp_path)
    trimmed = make_model()
    trim_vocabulary(trimmed.encoder, np.arange(30))
    with pytest.raises(ModelError, match="must encode its texts as it did before"):
        run(trimmed, examples, tmp_path)


def test_a_reduced_state_gives_the_end_of_training_again(tmp_path, examples):
    whole, loop = run(make_model(), examples, tmp_path, **RESUMABLE)
    before = sum(path.stat().st_size for path in loop.store.folder.glob("step-*/*"))
    loop.store.reduce()
    assert sum(path.stat().st_size for path in loop.store.folder.glob("step-*/*")) < before / 5
    AcceleratorState._reset_state()
    again, resumed = run(make_model(seed=99), examples, tmp_path, **RESUMABLE)
    np.testing.assert_array_equal(again.dev_logits, whole.dev_logits)
    assert (again.history, again.best_step, again.steps) == (whole.history, whole.best_step, whole.steps)
    assert resumed.tracker.points == []


def test_a_checkpoint_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    store = CheckpointStore(tmp_path)
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match=r"have room, but got .*No space left.* resume=latest"):
        store.save_state(1, {"step": 1})
    assert store.newest_step() is None


class TestWithoutDev:
    """Train rows alone: nothing is judged, the last weights are kept."""

    @pytest.fixture
    def only_train(self, examples):
        return {"train": examples["train"]}

    def test_it_goes_part_of_the_way_of_a_whole_schedule(self, tmp_path, examples, only_train):
        _, whole = run(make_model(), examples, tmp_path / "a", epochs=3, log_steps=1)
        AcceleratorState._reset_state()
        fitted, part = run(make_model(), only_train, tmp_path / "b", **ONLY_TRAIN)
        assert (fitted.steps, fitted.best_step, fitted.schedule_steps) == (9, 9, 18)
        for name in ("train/learning_rate", "train/loss"):
            assert part.tracker.series(name) == whole.tracker.series(name)[:9]
        assert fitted.dev_logits is None
        assert not [name for _, values in part.tracker.points for name in values if name.startswith("dev/")]

    def test_a_small_share_is_one_step_at_least(self, tmp_path, only_train):
        fitted, _ = run(make_model(), only_train, tmp_path, **(ONLY_TRAIN | {"share": 1e-9}))
        assert fitted.steps == 1

    @pytest.mark.parametrize("ema_decay", [0.0, 0.9])
    def test_the_last_weights_are_kept(self, tmp_path, only_train, ema_decay):
        session = open_session("fp32", seed=7)
        loop = build(make_model(), only_train, tmp_path, session, ema_decay=ema_decay, **ONLY_TRAIN)
        last = []
        loop.store.save_state = lambda *_: last.append([each.detach().clone() for each in loop.model.parameters()])
        fitted = loop.run(Silent())
        expected = loop.average.averages if loop.average else last[-1]
        assert all(torch.equal(a, b) for a, b in zip(fitted.model.parameters(), expected, strict=True))
        assert not ema_decay or not torch.equal(expected[0], last[-1][0])

    @pytest.mark.parametrize("stop_at", [3, 9])
    def test_it_continues_where_it_stopped(self, tmp_path, only_train, stop_at):
        class Stop(Silent):
            def update(self, step, metrics):
                if step == stop_at:
                    raise KeyboardInterrupt

        whole, _ = run(make_model(), only_train, tmp_path / "whole", **ONLY_TRAIN, **RESUMABLE)
        AcceleratorState._reset_state()
        model = make_model()  # first, as `run` has it: the session's seed is then that of dropout
        loop = build(model, only_train, tmp_path / "again", open_session("fp32", seed=7), **ONLY_TRAIN, **RESUMABLE)
        with pytest.raises(KeyboardInterrupt):
            loop.run(Stop())
        AcceleratorState._reset_state()
        again, _ = run(make_model(), only_train, tmp_path / "again", **ONLY_TRAIN, **RESUMABLE)
        for mine, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(mine, other)


def test_patience_ends_training_early(tmp_path, examples):
    _, loop = run(make_model(), examples, tmp_path, epochs=50, patience=2, learning_rate=1e-2)
    assert loop.progress.step < loop.plan.total_steps
    assert loop.progress.evaluations_since_best == 2


def test_the_average_of_weights_is_what_is_evaluated_and_kept(tmp_path, examples):
    fitted, loop = run(make_model(), examples, tmp_path, ema_decay=0.9, epochs=2)
    kept = [parameter.detach() for parameter in fitted.model.parameters()]
    if fitted.best_step == fitted.steps:
        assert all(torch.equal(a, b) for a, b in zip(kept, loop.average.averages, strict=True))
    plain, _ = run(make_model(), examples, tmp_path / "plain", epochs=2)
    assert not np.allclose(plain.dev_logits, fitted.dev_logits)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "cosine_with_restarts", "constant"])
def test_each_schedule_follows_its_own_course(tmp_path, examples, schedule):
    _, loop = run(make_model(), examples, tmp_path, schedule=schedule, warmup_ratio=0.2, log_steps=1, epochs=5)
    rates = np.array(loop.tracker.series("train/learning_rate"))
    assert rates[0] == 0
    assert rates.argmax() >= round(0.2 * loop.plan.total_steps)
    last = rates[-1] / rates.max()
    assert last == 1 if schedule == "constant" else last < 0.2
    rises = int((np.diff(rates[rates.argmax() :]) > 0).sum())
    assert (rises > 0) == (schedule == "cosine_with_restarts")


def test_evaluations_are_spread_over_the_epoch(tmp_path, examples):
    _, loop = run(make_model(), examples, tmp_path, evals_per_epoch=3, epochs=2)
    assert [step for step, values in loop.tracker.points if "dev/macro_f1" in values] == [2, 4, 6, 8, 10, 12]


def _two_processes(folder, settings):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command = [sys.executable, *launcher, str(HERE / "tiny.py"), str(folder), "never", json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("kill_at", [3, 9, 14])
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path, examples, kill_at):
    whole, uninterrupted = run(make_model(), examples, tmp_path / "whole", **RESUMABLE)
    log = tmp_path / "killed.log"
    killed = forked.start(log, tiny.main, str(tmp_path / "killed"), str(kill_at), json.dumps(RESUMABLE))
    assert forked.wait(killed) == -signal.SIGKILL, log.read_text()
    assert not (tmp_path / "killed" / "result.json").exists()
    AcceleratorState._reset_state()
    again, resumed = run(make_model(seed=0 if kill_at == 3 else 99), examples, tmp_path / "killed", **RESUMABLE)
    np.testing.assert_array_equal(again.dev_logits, whole.dev_logits)
    for mine, other in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert resumed.tracker.series("dev/macro_f1")[-1] == uninterrupted.tracker.series("dev/macro_f1")[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("bert", {"batch_size": 17, "micro_batch_size": 4}),
        ("deberta", {"tokens_per_batch": 100, "micro_batch_size": 4}),
    ],
)
def test_two_processes_train_like_one(tmp_path, examples, architecture, settings):
    model = make_model(dropout=0.0, architecture=architecture)
    alone, loop = run(model, examples, tmp_path / "one", **settings)
    given = settings | {"dropout": 0.0, "architecture": architecture}
    two = _two_processes(tmp_path / "two", given)
    assert two.returncode == 0, two.stderr
    together = json.loads((tmp_path / "two" / "result.json").read_text())
    np.testing.assert_allclose(together["logits"], alone.dev_logits, atol=5e-4, rtol=1e-3)
    for name in ("train/loss", "train/grad_norm", "dev/macro_f1"):
        np.testing.assert_allclose(together[name], loop.tracker.series(name), atol=5e-4, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup_ratio", 1.0),
        ("max_grad_norm", -1.0),
        ("ema_decay", 1.0),
        ("layer_decay", 0.0),
        ("patience", -1),
        ("weight_decay", 1.0),
        ("head_learning_rate_factor", 0.0),
    ],
)
def test_a_setting_out_of_range_names_itself(name, value):
    with pytest.raises(SettingsError, match=f"{name} must .* but got {name}="):
        FitConfig(**{name: value})


def test_rows_fewer_than_processes_leave_a_spare_batch_masked(tmp_path):
    examples = {"train": make_examples(33, 1), "dev": make_examples(48, 2)}
    fitted, _ = run(make_model(), examples, tmp_path, batch_size=16)
    assert np.isfinite(fitted.dev_logits).all()
