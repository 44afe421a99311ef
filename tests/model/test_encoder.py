import json
import logging
import shutil
from typing import ClassVar

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import ARCHITECTURES, make_tokenizer
from torch import nn

from trainer.core.errors import ModelError, SettingsError
from trainer.model import encoder as encoders
from trainer.model import location
from trainer.model.classifier import EmotionClassifier, parameter_groups
from trainer.model.config import ModelConfig
from trainer.model.encoder import hub_commit, load_encoder, max_tokens
from trainer.model.pooling import POOLINGS

TEXTS = ["so proud of you !", "i miss her"]


def load(folder, **changes):
    return load_encoder(ModelConfig(model=str(folder), **changes))


def classify(folder, **changes):
    encoder, tokenizer = load(folder, **changes)
    torch.manual_seed(1)
    return EmotionClassifier(encoder, 3, pooling="mean", dropout=changes.get("dropout", 0.1)), tokenizer


def feed(tokenizer, texts=TEXTS, **options):
    batch = tokenizer(texts, return_tensors="pt", padding=True, **options)
    return batch["input_ids"], batch["attention_mask"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestEveryArchitecture:
    def test_weights_are_those_of_the_folder_in_float32(self, model_folders, architecture):
        encoder, _ = load(model_folders[architecture])
        stock = transformers.AutoModel.from_pretrained(model_folders[architecture]).state_dict()
        assert encoder.state_dict()
        assert all(torch.equal(stock[name], weight) for name, weight in encoder.state_dict().items())
        assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}

    def test_every_parameter_takes_part(self, model_folders, architecture):
        model, tokenizer = classify(model_folders[architecture])
        model(*feed(tokenizer)).sum().backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []

    def test_dropout_is_set_everywhere(self, model_folders, architecture):
        model, tokenizer = classify(model_folders[architecture], dropout=0.4)
        rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
        assert rates
        assert set(rates) == {0.4}
        assert not torch.equal(model(*feed(tokenizer)), model(*feed(tokenizer)))
        still, _ = classify(model_folders[architecture], dropout=0.0)
        assert torch.equal(still(*feed(tokenizer)), still(*feed(tokenizer)))

    def test_padding_changes_nothing(self, model_folders, architecture):
        model, tokenizer = classify(model_folders[architecture])
        for pooling in POOLINGS:
            model.pooling = pooling
            together, alone = model.eval()(*feed(tokenizer)), model(*feed(tokenizer, TEXTS[1:]))
            torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-4)

    def test_checkpointed_gradients_are_the_same(self, model_folders, architecture):
        gradients = []
        for checkpointing in (False, True):
            model, tokenizer = classify(model_folders[architecture], dropout=0.0, gradient_checkpointing=checkpointing)
            assert model.encoder.is_activation_checkpointing is checkpointing
            model.train()(*feed(tokenizer)).sum().backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        torch.testing.assert_close(*gradients)

    def test_every_parameter_is_in_one_group(self, model_folders, architecture):
        model, _ = classify(model_folders[architecture])
        groups = parameter_groups(
            model, learning_rate=1.0, head_learning_rate_factor=10, layer_decay=0.5, weight_decay=0.1
        )
        grouped = [parameter for group in groups for parameter in group["params"]]
        assert len(grouped) == len({id(parameter) for parameter in grouped}) == len(list(model.parameters()))
        assert sorted({group["lr"] for group in groups}) == [0.25, 0.5, 1.0, 10.0]
        assert groups[0]["name"] == "embeddings without decay"
        assert all(parameter.ndim == 2 for group in groups if group["weight_decay"] for parameter in group["params"])


def test_a_config_file_gives_random_weights_from_the_seed(model_folders, tmp_path):
    shutil.copy(model_folders["deberta-v3"] / "config.json", tmp_path / "small.json")
    shutil.copytree(model_folders["deberta-v3"], tmp_path / "tokenizer", ignore=shutil.ignore_patterns("*.safetensors"))
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(load(tmp_path / "small.json")[0].get_input_embeddings().weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_half_precision_checkpoints_become_float32(own_model):
    weights = {name: tensor.half() for name, tensor in load_file(own_model / "model.safetensors").items()}
    save_file(weights, own_model / "model.safetensors", metadata={"format": "pt"})
    actual = load(own_model)[0].state_dict()
    assert {tensor.dtype for tensor in actual.values() if tensor.is_floating_point()} == {torch.float32}
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(actual[name], weights[name].float())


def test_the_starter_is_the_packaged_folder(model_folders, monkeypatch, tmp_path):
    monkeypatch.setattr(location, "STARTER_FOLDER", model_folders["deberta-v3"])
    assert load_encoder(ModelConfig(model="starter"))[0].config.model_type == "deberta-v2"
    monkeypatch.setattr(location, "STARTER_FOLDER", tmp_path / "none")
    with pytest.raises(ModelError, match="starter encoder is missing"):
        load_encoder(ModelConfig(model="starter"))


def test_hub_ids_and_revisions_are_found_in_the_cache(model_folders, monkeypatch, tmp_path):
    commits = {"main": "a" * 40, "v1": "b" * 40}
    repository = tmp_path / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    for revision, architecture in {"main": "bert", "v1": "deberta-v3"}.items():
        shutil.copytree(model_folders[architecture], repository / "snapshots" / commits[revision])
        (repository / "refs" / revision).write_text(commits[revision])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert load("someone/something")[0].config.model_type == "bert"
    encoder, tokenizer = load("someone/something", model_revision="v1")
    assert (encoder.config.model_type, len(tokenizer)) == ("deberta-v2", 17)
    assert hub_commit(ModelConfig(model="someone/something")) == commits["main"]
    assert hub_commit(ModelConfig(model="someone/something", model_revision="v1")) == commits["v1"]
    assert hub_commit(ModelConfig(model=str(model_folders["bert"]))) == ""


def test_a_downloaded_model_with_pickled_weights_only_is_explained(own_model, monkeypatch, tmp_path):
    repository, commit = tmp_path / "models--someone--pickled", "c" * 40
    shutil.copytree(own_model, repository / "snapshots" / commit)
    weights = repository / "snapshots" / commit / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"pickled weights only") as caught:
        load("someone/pickled")
    assert "hf download" not in str(caught.value)


def test_sharded_checkpoints_load(own_model):
    model = transformers.AutoModel.from_pretrained(own_model)
    (own_model / "model.safetensors").unlink()
    model.save_pretrained(own_model, max_shard_size="10KB")
    assert not (own_model / "model.safetensors").exists()
    assert torch.equal(load(own_model)[0].get_input_embeddings().weight, model.get_input_embeddings().weight)


class TestRarerArchitectures:
    """Encoders without a limit of positions, without a pooler's switch, or without word embeddings."""

    SIZES: ClassVar = {"vocab_size": 24, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}

    def save(self, folder, config):
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        return folder

    @pytest.mark.parametrize("limit", [-1, None])
    def test_relative_positions_have_no_limit(self, tmp_path, limit):
        if limit == -1:
            config = transformers.XLNetConfig(vocab_size=24, d_model=32, n_layer=1, n_head=2, d_inner=32)
        else:
            sizes = {"block_sizes": [1, 1], "num_decoder_layers": 1, "n_head": 2, "d_head": 16}
            config = transformers.FunnelConfig(vocab_size=24, d_model=32, d_inner=32, **sizes)
            config.architectures = ["FunnelModel"]
        assert getattr(config, "max_position_embeddings", None) == limit
        assert max_tokens(load(self.save(tmp_path, config))[0]) is None

    def test_an_encoder_that_always_calls_its_pooler_works(self, tmp_path):
        groups = dict.fromkeys([f"{name}_groups" for name in ("q", "k", "v", "post_attention", "intermediate")], 1)
        config = transformers.SqueezeBertConfig(
            **self.SIZES, hidden_size=32, embedding_size=32, output_groups=1, **groups
        )
        model, tokenizer = classify(self.save(tmp_path, config))
        model(*feed(tokenizer)).sum().backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []

    def test_an_encoder_of_characters_is_refused_by_name(self, tmp_path):
        sizes = {**self.SIZES, "hidden_size": 32, "local_transformer_stride": 32}
        folder = self.save(tmp_path, transformers.CanineConfig(**sizes, max_position_embeddings=512))
        with pytest.raises(ModelError, match=r"`model` must be an encoder with a vector for each token.*canine"):
            load(folder)


class TestRefused:
    def test_a_folder_with_pickled_weights_only(self, own_model):
        (own_model / "model.safetensors").rename(own_model / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"a model folder without safetensors.*can run code"):
            load(own_model)

    @pytest.mark.parametrize(
        "file", ["weights.bin", "../weights.safetensors", "/tmp/weights.safetensors", "sub/w.safetensors"]
    )
    def test_an_index_that_names_other_files_is_refused(self, own_model, file):
        (own_model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
        with pytest.raises(ModelError, match=f"index .* got {file}"):
            load_encoder(ModelConfig(model=str(own_model)))

    def test_a_folder_without_weights(self, own_model):
        (own_model / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"a model folder without safetensors.*config file"):
            load(own_model)

    def test_a_folder_without_config(self, own_model):
        (own_model / "config.json").unlink()
        with pytest.raises(ModelError, match=r"own/config\.json: No such file"):
            load(own_model)

    @pytest.mark.parametrize("damage", [lambda path: path.write_text("[" * 100_000), lambda path: path.write_text("{")])
    def test_a_damaged_config(self, own_model, damage):
        damage(own_model / "config.json")
        with pytest.raises(ModelError, match=r"own/config\.json: n"):
            load(own_model)

    @pytest.mark.parametrize("name", ["~nobody", "x" * 3000, "a/b/c"])
    def test_a_name_that_cannot_exist(self, name):
        with pytest.raises(ModelError, match=r"`model` must be") as caught:
            load(name)
        assert len(str(caught.value)) < 400

    def test_missing_weights(self, own_model):
        weights = load_file(own_model / "model.safetensors")
        del weights["encoder.layer.1.output.dense.weight"]
        save_file(weights, own_model / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lacks 1 weights .* encoder\.layer\.1\.output\.dense\.weight"):
            load(own_model)

    def test_weights_of_another_shape(self, own_model):
        config = json.loads((own_model / "config.json").read_text())
        (own_model / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
        with pytest.raises(ModelError, match="transformers cannot load"):
            load(own_model)

    @pytest.mark.parametrize(
        ("file", "name", "value"),
        [("config.json", "layer_norm_eps", [1e-12]), ("tokenizer_config.json", "sep_token", 1.5)],
    )
    def test_a_value_of_another_type(self, own_model, file, name, value):
        content = json.loads((own_model / file).read_text())
        (own_model / file).write_text(json.dumps({**content, name: value}))
        with pytest.raises(ModelError, match=name) as caught:
            load(own_model)
        assert len(str(caught.value)) <= 300

    def test_a_truncated_file(self, own_model):
        path = own_model / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ModelError, match="transformers cannot load"):
            load(own_model)

    def test_an_unknown_architecture(self, own_model):
        (own_model / "config.json").write_text('{"model_type": "emotionformer"}')
        with pytest.raises(ModelError, match="emotionformer"):
            load(own_model)

    def test_an_encoder_with_a_decoder(self, own_model):
        config = transformers.T5Config(vocab_size=24, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        config.save_pretrained(own_model)
        with pytest.raises(ModelError, match=r"must be an encoder, got .* t5"):
            load(own_model / "config.json")

    def test_a_folder_without_tokenizer(self, own_model):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (own_model / name).unlink()
        with pytest.raises(ModelError, match=r"tokenizer's vocabulary|transformers cannot load"):
            load(own_model)

    def test_a_tokenizer_of_another_model(self, own_model):
        tokenizer = make_tokenizer()
        tokenizer.add_tokens([f"word{i}" for i in range(20)])
        tokenizer.save_pretrained(own_model)
        with pytest.raises(ModelError, match=r"37 tokens.* 24 embeddings"):
            load(own_model)

    def test_a_tokenizer_without_padding(self, own_model):
        path = own_model / "tokenizer_config.json"
        config = json.loads(path.read_text())
        del config["pad_token"]
        path.write_text(json.dumps(config))
        with pytest.raises(ModelError, match="no padding token"):
            load(own_model)

    def test_a_hub_id_without_network(self):
        with pytest.raises(ModelError, match=r"(?s)nobody/nothing.*hf download nobody/nothing"):
            load("nobody/nothing")

    def test_a_revision_of_a_local_model(self, own_model):
        with pytest.raises(SettingsError, match="`model_revision` must be empty for the local model"):
            load(own_model, model_revision="v1")

    @pytest.mark.parametrize(
        "name", ["/nowhere/model", "./nowhere", "../a/b", "a/b/c", "configs/tiny.json", "typo", "startr"]
    )
    def test_a_name_that_does_not_exist_fails_without_a_call_to_the_hub(self, monkeypatch, name):
        # Without a word to the hub: its client would try again five times.
        monkeypatch.setattr(encoders._TRANSFORMERS, "AutoConfig", None)
        with pytest.raises(ModelError, match=r"`model` must be .*hub id"):
            load(name)


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("bert", 32), ("roberta", 31), ("distilbert", 32), ("modernbert", 32), ("deberta", 32), ("deberta-v3", None)],
)
def test_longest_text(model_folders, architecture, expected):
    encoder, tokenizer = load(model_folders[architecture])
    assert max_tokens(encoder) == expected
    if expected:
        ids, mask = feed(tokenizer, ["you " * 60], truncation=True, max_length=expected)
        assert ids.shape == (1, expected)
        assert torch.isfinite(encoder(input_ids=ids, attention_mask=mask).last_hidden_state).all()


def test_transformers_keeps_its_verbosity(own_model):
    log = transformers.utils.logging
    before = log.get_verbosity()
    log.set_verbosity(logging.INFO)
    try:
        load(own_model)
        assert log.get_verbosity() == logging.INFO
        assert log.is_progress_bar_enabled()
    finally:
        log.set_verbosity(before)
