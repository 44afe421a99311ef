"""Compact attention against the stock attention of transformers: outputs and every gradient."""

import copy
import shutil
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, DebertaConfig, DebertaV2Config

from trainer.core.errors import ModelError
from trainer.model.config import ModelConfig
from trainer.model.deberta_attention import CompactRelativeAttention, attention_of, use_compact_attention
from trainer.model.encoder import load_encoder

PATTERNS = [("p2c", "c2p"), ("c2p",), ("p2c",), ()]
TINY = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
V3 = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False}
VARIANTS = {
    "v1": {"config": DebertaConfig},
    "v1 with fewer distances": {"config": DebertaConfig, "max_relative_positions": 8},
    "v2": {},
    "v2 with a convolution": {"conv_kernel_size": 3, "conv_act": "gelu", "position_buckets": 8, "share_att_key": True},
    "v3": {**V3, "position_buckets": 8},
    "odd buckets": {"position_buckets": 7},
    "distances of its own": {**V3, "max_relative_positions": 40, "position_buckets": 12},
}
# Hidden size and heads of the published models; the rest of their attention is alike but for the number of layers.
SIZES = {"xsmall": (384, 6), "small and base": (768, 12), "large": (1024, 16)}
GENERATIONS = pytest.mark.parametrize("variant", ["v1", "v3"])
# Up to 129 tokens no two distances share a bucket.
LENGTHS = {"xsmall": (1, 37, 129, 130, 512), "small and base": (18, 130), "large": (2, 129, 130)}


def make_pair(dtype=torch.float64, config=DebertaV2Config, **changes):
    """The same random model twice: stock, and with compact attention."""
    torch.manual_seed(0)
    stock = AutoModel.from_config(config(**{**TINY, **changes})).to(dtype).train()
    for parameter in stock.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if changes.get("hidden_size", 16) == 16 else 0.03)
    compact = copy.deepcopy(stock)
    assert use_compact_attention(compact) == stock.config.num_hidden_layers
    return stock, compact


def make_batch(length, rows=3):
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(30, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:2, (length + 1) // 2 :] = 0
    return ids, mask


def results(model, ids, mask):
    """Hidden states of tokens, padding left out, and the gradients of a weighted sum of them."""
    model.zero_grad()
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
    weights = torch.sin(torch.arange(hidden.numel(), dtype=hidden.dtype)).view_as(hidden)
    (hidden * weights).mean().backward()
    # A projection of positions that none reads has no gradient, or one of zeros.
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return [hidden.detach(), *gradients]


def assert_alike(stock, compact, batch, tolerance):
    for expected, actual in zip(results(stock, *batch), results(compact, *batch), strict=True):
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_are_those_of_the_stock_model(variant):
    for pattern in PATTERNS:
        stock, compact = make_pair(**VARIANTS[variant], pos_att_type=list(pattern))
        for length in (1, 2, 5, 7, 9, 32):
            assert_alike(stock, compact, make_batch(length), 1e-10)


@pytest.mark.parametrize(("size", "lengths"), LENGTHS.items())
def test_the_published_shapes_agree_at_every_kind_of_length(size, lengths):
    hidden, heads = SIZES[size]
    shape = {"hidden_size": hidden, "num_attention_heads": heads, "num_hidden_layers": 1, "intermediate_size": 64}
    pair = make_pair(**V3, **shape, position_buckets=256, max_position_embeddings=512)
    for length in lengths:
        assert_alike(*pair, make_batch(length, rows=2), 1e-10)


@GENERATIONS
def test_float32_agrees_to_its_rounding(variant):
    for length in (2, 9, 17):
        assert_alike(*make_pair(torch.float32, **VARIANTS[variant]), make_batch(length), 1e-5)


@settings(max_examples=40)
@given(
    config=st.sampled_from([DebertaConfig, DebertaV2Config]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5)),
    options=st.fixed_dictionaries(
        {
            "position_buckets": st.sampled_from([-1, 2, 5, 8, 32]),
            "share_att_key": st.booleans(),
            "pos_att_type": st.sampled_from([list(pattern) for pattern in PATTERNS]),
        }
    ),
    length=st.integers(1, 32),
    masks=st.lists(st.integers(0, 32), min_size=1, max_size=4),
)
def test_random_configurations_agree(config, shape, options, length, masks):
    heads, width = shape
    stock, compact = make_pair(config=config, hidden_size=heads * width, num_attention_heads=heads, **options)
    ids, mask = make_batch(length, rows=len(masks))
    for row, real in enumerate(masks):
        mask[row, real:] = 0  # none at all, too
    assert_alike(stock, compact, (ids, mask), 1e-10)


def test_bf16_is_as_near_to_float32_as_the_stock_model():
    stock, compact = make_pair(torch.float32, **VARIANTS["v3"])
    ids, mask = make_batch(11)
    exact = stock(input_ids=ids, attention_mask=mask).last_hidden_state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        far = (stock(input_ids=ids, attention_mask=mask).last_hidden_state - exact).abs().mean()
        near = (compact(input_ids=ids, attention_mask=mask).last_hidden_state - exact).abs().mean()
    assert near < 1.5 * far


def test_v1_computes_in_bf16_where_the_stock_model_overflows():
    stock, compact = make_pair(torch.float32, **VARIANTS["v1"])
    ids, mask = make_batch(11)
    exact = stock(input_ids=ids, attention_mask=mask).last_hidden_state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(RuntimeError, match="without overflow"):
            stock(input_ids=ids, attention_mask=mask)
        actual = compact(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (actual - exact)[mask.bool()].abs().mean() < 0.02 * exact[mask.bool()].abs().mean()


@GENERATIONS
def test_gradient_checkpointing_changes_nothing(variant):
    stock, compact = make_pair(**VARIANTS[variant])
    compact.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    assert_alike(stock, compact, make_batch(9), 1e-10)


@GENERATIONS
def test_positions_and_probabilities_are_dropped_as_often_as_in_the_stock_model(variant):
    dropped = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.3}
    ids, mask = make_batch(7)
    there, gone = Counter(), Counter()

    def count(module, given, out):
        there[module] += int((given[0] != 0).sum())
        gone[module] += int(((given[0] != 0) & (out == 0)).sum())

    for model in make_pair(torch.float32, **VARIANTS[variant], **dropped):
        for name, module in model.named_modules():
            if name.endswith(("self.dropout", "self.pos_dropout")):
                module.register_forward_hook(count)
        torch.manual_seed(2)
        for _ in range(100):
            model(input_ids=ids, attention_mask=mask)
    assert len(there) == 8
    assert [gone[module] / there[module] for module in there] == pytest.approx([0.3] * 8, abs=0.02)


@GENERATIONS
def test_it_compiles_as_one_graph(variant):
    stock, compact = make_pair(**VARIANTS[variant])
    ids, mask = make_batch(12)
    compiled = torch.compile(compact, backend="eager", fullgraph=True)
    actual = compiled(input_ids=ids, attention_mask=mask).last_hidden_state
    expected = stock(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(actual[mask.bool()], expected[mask.bool()], rtol=0, atol=1e-10)


@GENERATIONS
def test_attentions_are_returned_with_output_attentions(variant):
    stock, compact = make_pair(**VARIANTS[variant])
    ids, mask = make_batch(6)
    pairs = [model(input_ids=ids, attention_mask=mask, output_attentions=True).attentions for model in (stock, compact)]
    real = (mask.unsqueeze(1) * mask.unsqueeze(2)).unsqueeze(1).bool()
    for expected, actual in zip(*pairs, strict=True):
        torch.testing.assert_close(actual * real, expected * real, rtol=0, atol=1e-10)


@GENERATIONS
def test_gradients_reach_the_attentions_that_are_returned(variant):
    gradients = []
    for model in make_pair(**VARIANTS[variant]):
        output = model(*make_batch(6), output_attentions=True)
        for attention in output.attentions:
            attention.retain_grad()
        output.last_hidden_state.sin().sum().backward()
        gradients.append([attention.grad for attention in output.attentions])
    for expected, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@GENERATIONS
def test_saved_weights_load_in_the_stock_model(variant, tmp_path):
    stock, compact = make_pair(torch.float32, **VARIANTS[variant])
    compact.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert not any(isinstance(module, CompactRelativeAttention) for module in again.modules())
    assert list(again.state_dict()) == list(compact.state_dict()) == list(stock.state_dict())
    assert all(torch.equal(again.state_dict()[name], value) for name, value in stock.state_dict().items())


class TestSetting:
    """`attention` of the settings, on encoders as they are loaded."""

    @pytest.mark.parametrize("architecture", ["deberta", "deberta-v2", "deberta-v3"])
    @pytest.mark.parametrize(("attention", "actual"), [("auto", "compact"), ("compact", "compact"), ("stock", "stock")])
    def test_deberta_has_the_attention_of_the_setting(self, model_folders, architecture, attention, actual):
        encoder, _ = load_encoder(ModelConfig(model=str(model_folders[architecture]), attention=attention))
        assert attention_of(encoder) == actual

    def test_other_models_keep_theirs_and_refuse_compact(self, model_folders):
        encoder, _ = load_encoder(ModelConfig(model=str(model_folders["bert"])))
        assert attention_of(encoder) == "sdpa"
        with pytest.raises(ModelError, match=r"attention=compact.* type bert"):
            load_encoder(ModelConfig(model=str(model_folders["bert"]), attention="compact"))

    @pytest.mark.parametrize("change", [{"talking_head": True}, {"relative_attention": False}], ids=str)
    def test_a_deberta_that_is_not_covered_keeps_stock(self, model_folders, tmp_path, change):
        folder = shutil.copytree(model_folders["deberta"], tmp_path / "deberta")
        model = AutoModel.from_config(DebertaConfig(**{**TINY, **change}))
        model.save_pretrained(folder)
        encoder, _ = load_encoder(ModelConfig(model=str(folder)))
        assert attention_of(encoder) == "stock"
        with pytest.raises(ModelError, match=r"talking heads.* type deberta"):
            load_encoder(ModelConfig(model=str(folder), attention="compact"))
