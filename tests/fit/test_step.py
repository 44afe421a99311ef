"""A step: micro batches, batches of equally many tokens, and memory that runs out."""

import numpy as np
import pytest
import torch
from tiny_loop import Silent, build, make_model, make_split, run

from trainer.core.errors import ModelError
from trainer.fit.distributed import open_context

BY_TOKENS = {"tokens_per_batch": 48, "micro_batch_size": 16, "log_steps": 1}


def out_of_memory(model, is_too_large, seen=None):
    """Let forward passes of a model in training raise as CUDA does."""
    forward = model.forward

    def limited(input_ids, attention_mask):
        if model.training and is_too_large(input_ids):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if seen is not None:
            seen.append(input_ids.numel())
        return forward(input_ids, attention_mask)

    model.forward = limited
    return model


@pytest.fixture(scope="module")
def whole(splits, tmp_path_factory):
    """The result of one epoch in whole batches without dropout."""
    return run(make_model(dropout=0.0), splits, tmp_path_factory.mktemp("whole"), epochs=1)[0]


def test_micro_batches_do_not_change_the_result(tmp_path, splits, whole):
    parts, _ = run(make_model(dropout=0.0), splits, tmp_path, micro_batch_size=3, epochs=1)
    np.testing.assert_allclose(parts.dev_logits, whole.dev_logits, atol=2e-4)


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_gradient(tmp_path, splits, whole):
    model = out_of_memory(make_model(dropout=0.0), lambda ids: len(ids) > 5)
    fitted, loop = run(model, splits, tmp_path, epochs=1)
    assert loop.stepper.micro_batch_size == 4
    np.testing.assert_allclose(fitted.dev_logits, whole.dev_logits, atol=2e-4)


class TestTokensPerBatch:
    """Steps of a fixed number of tokens; an example has 3 to 12."""

    def test_every_example_has_equal_weight(self, tmp_path, splits):
        """The gradients of an epoch without updates add up to the gradient of the mean over all examples."""
        context = open_context("fp32", seed=7)
        settings = BY_TOKENS | {"learning_rate": 1e-12, "max_grad_norm": 0.0}
        loop = build(make_model(dropout=0.0), splits, tmp_path, context, **settings)
        gradient = []
        loop.stepper.optimizer.optimizer.register_step_pre_hook(
            lambda *_: gradient.append(loop.model.head.bias.grad.clone())
        )
        loop.stepper.model.train()
        batches = loop.batches.epoch(0)
        assert len({len(examples) for examples in batches}) > 3
        for examples in batches:
            loop.stepper.step(splits["train"], examples)
        whole = splits["train"].batch(np.arange(96), context.device)
        logits = loop.model(whole.input_ids, whole.attention_mask)
        (loop.loss_function(logits, whole.labels, whole.observed) / 96).backward()
        torch.testing.assert_close(sum(gradient) / len(gradient), loop.model.head.bias.grad)

    def test_out_of_memory_halves_the_tokens_of_a_pass(self, tmp_path, splits):
        seen = []
        model = out_of_memory(make_model(dropout=0.0), lambda ids: ids.numel() > 24, seen)
        fitted, loop = run(model, splits, tmp_path / "a", epochs=1, **BY_TOKENS)
        expected, _ = run(make_model(dropout=0.0), splits, tmp_path / "b", epochs=1, **BY_TOKENS)
        assert loop.stepper.micro_batch_size == 2  # of the longest examples, 12 tokens each
        assert max(seen) > 20
        np.testing.assert_allclose(fitted.dev_logits, expected.dev_logits, atol=2e-4)

    def test_the_loss_logged_is_the_mean_over_examples(self, tmp_path, splits):
        context = open_context("fp32", seed=7)
        settings = BY_TOKENS | {"epochs": 1, "learning_rate": 1e-12}
        loop = build(make_model(dropout=0.0), splits, tmp_path, context, **settings)
        loop.run(Silent())
        logged = loop.tracker.series("train/loss")
        mean = sum(len(examples) * loss for examples, loss in zip(loop.batches.epoch(0), logged, strict=True)) / 96
        whole = splits["train"].batch(np.arange(96), context.device)
        with torch.no_grad():
            logits = make_model(dropout=0.0)(whole.input_ids, whole.attention_mask)
        assert mean == pytest.approx(float(loop.loss_function(logits, whole.labels, whole.observed)) / 96, rel=1e-4)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("CUDA out of memory.", (ModelError, "gradient_checkpointing")),
        ("sizes do not match", (RuntimeError, "sizes do not match")),
    ],
)
def test_a_pass_that_fails_with_one_example_raises(tmp_path, splits, message, expected):
    model = make_model()
    model.forward = lambda *_: (_ for _ in ()).throw(RuntimeError(message))
    with pytest.raises(expected[0], match=expected[1]):
        run(model, splits, tmp_path)


def test_the_last_batch_may_be_a_single_example(tmp_path, splits):
    fitted, _ = run(make_model(), splits | {"train": make_split(33, 1)}, tmp_path, batch_size=16, epochs=1)
    assert np.isfinite(fitted.dev_logits).all()
