"""Training on a pruned embedding equals training on the whole one."""

import copy

import numpy as np
import pytest
import torch
from tiny_models import ARCHITECTURES
from torch import nn
from transformers import AutoModel

from trainer.model.classifier import EmotionClassifier, parameter_groups
from trainer.model.optimizations.vocabulary import PrunedEmbedding, prune_vocabulary, restore_vocabulary

TOKEN_IDS = np.array([2, 3, 5, 6, 9, 11, 16])


def make_classifier(architecture):
    torch.manual_seed(0)
    return EmotionClassifier(AutoModel.from_config(ARCHITECTURES[architecture]()), 4, pooling="mean", dropout=0.0)


def make_batches(padding):
    generator = torch.Generator().manual_seed(5)
    for _ in range(4):
        ids = torch.from_numpy(TOKEN_IDS)[torch.randint(len(TOKEN_IDS), (6, 9), generator=generator)]
        mask = torch.ones_like(ids)
        ids[3:, 5:], mask[3:, 5:] = padding, 0
        yield ids, mask, torch.rand(6, 4, generator=generator).round()


def train(model, padding):
    groups = parameter_groups(
        model, learning_rate=1e-2, head_learning_rate_factor=2.0, layer_decay=1.0, weight_decay=0.1
    )
    optimizer = torch.optim.AdamW(groups)
    model.eval()  # no dropout: random numbers would be the only difference
    for ids, mask, labels in make_batches(padding):
        loss = nn.functional.binary_cross_entropy_with_logits(model(ids, mask), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_ends_with_the_weights_of_whole_training(architecture):
    whole = make_classifier(architecture)
    pruned = copy.deepcopy(whole)
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    padding = whole.encoder.config.pad_token_id
    prune_vocabulary(pruned.encoder, TOKEN_IDS)
    assert isinstance(pruned.encoder.get_input_embeddings(), PrunedEmbedding)
    assert pruned.encoder.get_input_embeddings().num_embeddings == len(set(TOKEN_IDS) | {padding})
    train(whole, padding)
    train(pruned, padding)
    restore_vocabulary(pruned.encoder)
    expected = whole.state_dict()
    actual = pruned.state_dict()
    assert list(actual) == list(expected)
    for name, value in actual.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    assert any(
        not torch.equal(value, before[name]) for name, value in actual.items() if "word" in name or "tok" in name
    )


def test_a_token_that_was_pruned_is_an_error():
    model = make_classifier("bert")
    prune_vocabulary(model.encoder, TOKEN_IDS)
    with pytest.raises(IndexError):
        model(torch.tensor([[2, 4, 3]]), torch.ones(1, 3, dtype=torch.int64))


def test_state_dicts_contain_the_active_rows_under_the_usual_names():
    model = make_classifier("deberta-v3")
    names = list(model.state_dict())
    prune_vocabulary(model.encoder, TOKEN_IDS)
    assert list(model.state_dict()) == names
    assert model.state_dict()["encoder.embeddings.word_embeddings.weight"].shape[0] == len(TOKEN_IDS) + 1


class TestLeftAlone:
    """Encoders whose embedding is used otherwise too keep it whole."""

    def test_without_an_input_embedding(self):
        encoder = nn.Linear(2, 2)
        prune_vocabulary(encoder, TOKEN_IDS)
        restore_vocabulary(encoder)
        assert [name for name, _ in encoder.named_modules()] == [""]

    def test_with_a_tied_one(self):
        encoder = make_classifier("bert").encoder
        whole = encoder.get_input_embeddings()
        encoder.output = nn.Linear(16, 24, bias=False)
        encoder.output.weight = whole.weight
        prune_vocabulary(encoder, TOKEN_IDS)
        assert encoder.get_input_embeddings() is whole
