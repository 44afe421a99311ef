from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from trainer.model.classifier import EmotionClassifier, parameter_groups
from trainer.model.config import PoolingName
from trainer.model.pooling import POOLINGS


class Layers(nn.Module):
    """An encoder of 3 layers whose hidden states are the embeddings of the tokens."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=4)
        self.embeddings = nn.Embedding(10, 4)
        self.layer = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.final_norm = nn.LayerNorm(4)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.embeddings(input_ids))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return EmotionClassifier(Layers(), 3, pooling="mean", dropout=0.0)


IDS = torch.tensor([[2, 5, 6, 3], [2, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def groups_of(model, *, layer_decay=1.0, factor=10.0, weight_decay=0.1):
    return parameter_groups(
        model,
        learning_rate=2.0,
        head_learning_rate_factor=factor,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
    )


def test_mean_leaves_padding_out(model):
    embedded = model.encoder.embeddings.weight
    expected = model.head(torch.stack([embedded[[2, 5, 6, 3]].mean(dim=0), embedded[[2, 3]].mean(dim=0)]))
    torch.testing.assert_close(model(IDS, MASK), expected)


def test_cls_is_the_first_token(model):
    model.pooling = "cls"
    expected = model.head(model.encoder.embeddings.weight[[2, 2]])
    torch.testing.assert_close(model(IDS, MASK), expected)


def test_every_choice_of_pooling_has_a_function():
    assert set(POOLINGS) == set(get_args(PoolingName))


def test_a_row_of_padding_gives_the_bias(model):
    assert torch.equal(model(IDS, torch.zeros_like(MASK))[1], model.head.bias)


def test_logits_are_float32_inside_autocast(model):
    model.encoder.embeddings.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(IDS, MASK)
    hidden = model.encoder.embeddings.weight.float()[IDS[0]].mean(dim=0)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[0], model.head(hidden))


def test_bias_starts_at_the_log_odds(model):
    frequencies = np.array([0.5, 0.01, 0.0])
    model.init_bias(frequencies)
    nn.init.zeros_(model.head.weight)
    predicted = torch.sigmoid(model(IDS, MASK)[0])
    torch.testing.assert_close(predicted, torch.tensor([0.5, 0.01, 1e-4]))


def test_head_dropout_is_that_of_the_setting():
    assert EmotionClassifier(Layers(), 3, pooling="mean", dropout=0.3).dropout.p == 0.3


class TestParameterGroups:
    def test_without_layer_decay_equal_groups_are_one(self, model):
        groups = groups_of(model)
        named = [(group["name"], group["lr"], group["weight_decay"], len(group["params"])) for group in groups]
        assert named == [
            ("embeddings-layer_2 without decay", 2.0, 0.0, 6),
            ("layer_0-layer_2", 2.0, 0.1, 3),
            ("head", 20.0, 0.1, 1),
            ("head without decay", 20.0, 0.0, 1),
        ]

    def test_layers_learn_more_slowly_towards_the_bottom(self, model):
        rates = {group["name"]: group["lr"] for group in groups_of(model, layer_decay=0.5) if group["weight_decay"]}
        assert rates == {"layer_0": 0.5, "layer_1": 1.0, "layer_2": 2.0, "head": 20.0}
        lowest = groups_of(model, layer_decay=0.5)[0]
        assert (lowest["name"], lowest["lr"]) == ("embeddings without decay", 0.25)

    def test_norms_above_the_layers_have_the_full_rate(self, model):
        norm = model.encoder.final_norm.weight
        group = next(g for g in groups_of(model, layer_decay=0.5) if any(p is norm for p in g["params"]))
        assert (group["lr"], group["weight_decay"]) == (2.0, 0.0)

    def test_without_any_difference_there_is_one_group(self, model):
        groups = groups_of(model, factor=1.0, weight_decay=0.0)
        assert len(groups) == 1
        assert len(groups[0]["params"]) == len(list(model.parameters()))

    def test_frozen_parameters_are_left_out(self, model):
        model.encoder.embeddings.requires_grad_(False)
        frozen = model.encoder.embeddings.weight
        assert not any(p is frozen for group in groups_of(model) for p in group["params"])

    def test_adamw_takes_them(self, model):
        optimizer = torch.optim.AdamW(groups_of(model, layer_decay=0.9), fused=True)
        before = model.head.weight.clone()
        model(IDS, MASK).sum().backward()
        optimizer.step()
        assert not torch.equal(before, model.head.weight)
