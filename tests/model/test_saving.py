import json
import stat
from importlib import metadata

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import ARCHITECTURES

from trainer.core.errors import ModelError
from trainer.model import saving
from trainer.model.classifier import EmotionClassifier
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder

NAMES = ("joy", "grief", "surprise (good)")
TEXTS = ["so proud of you !", "i miss her"]


def make(folder, pooling="mean"):
    encoder, tokenizer = load_encoder(ModelConfig(model=str(folder), dropout=0.2))
    torch.manual_seed(1)
    return EmotionClassifier(encoder, len(NAMES), pooling=pooling, dropout=0.2).eval(), tokenizer


def logits(model, tokenizer):
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.inference_mode():
        return model(batch["input_ids"], batch["attention_mask"])


@pytest.fixture
def saved(model_folders, tmp_path):
    saving.save(*make(model_folders["bert"]), tmp_path / "saved", NAMES, {"max_length": 64})
    return tmp_path / "saved"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_come_back_to_the_bit(model_folders, tmp_path, architecture):
    model, tokenizer = make(model_folders[architecture], pooling="cls")
    saving.save(model, tokenizer, tmp_path / "saved", NAMES, {})
    again, tokenizer_again, names = saving.load(tmp_path / "saved")
    assert names == NAMES
    assert not again.training
    assert (again.pooling, again.dropout.p) == ("cls", 0.2)
    assert torch.equal(logits(again, tokenizer_again), logits(model, tokenizer))


@pytest.mark.parametrize("architecture", ["bert", "deberta-v3", "modernbert"])
def test_the_encoder_is_a_model_folder_for_stock_transformers(model_folders, tmp_path, architecture):
    model, tokenizer = make(model_folders[architecture])
    saving.save(model, tokenizer, tmp_path / "saved", NAMES, {})
    folder = tmp_path / "saved" / "encoder"
    stock = transformers.AutoModel.from_pretrained(folder)
    batch = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, return_tensors="pt", padding=True)
    ours = model.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    theirs = stock(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(ours, theirs)
    again, _ = load_encoder(ModelConfig(model=str(folder)))
    assert torch.equal(again.get_input_embeddings().weight, model.encoder.get_input_embeddings().weight)


def test_the_description_says_what_joins_the_files(saved):
    description = json.loads((saved / "classifier.json").read_text())
    assert description["label_names"] == list(NAMES)
    assert description["versions"]["torch"] == metadata.version("torch")
    assert description["extra"] == {"max_length": 64}
    assert {path.suffix for path in saved.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_saving_again_replaces_the_whole_folder(model_folders, saved):
    (saved / "left-over.txt").write_text("old")
    model, tokenizer = make(model_folders["deberta-v3"])
    saving.save(model, tokenizer, saved, NAMES, {})
    assert sorted(path.name for path in saved.iterdir()) == ["classifier.json", "encoder", "head.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]
    assert saving.load(saved)[0].encoder.config.model_type == "deberta-v2"


def test_a_failure_leaves_the_old_files(model_folders, saved, monkeypatch):
    before = logits(*saving.load(saved)[:2])

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_file", full)
    with pytest.raises(ModelError, match="No space left"):
        saving.save(*make(model_folders["roberta"]), saved, NAMES, {})
    assert [path.name for path in saved.parent.iterdir()] == ["saved"]
    assert torch.equal(logits(*saving.load(saved)[:2]), before)


def test_other_users_may_read_what_the_folder_allows(saved):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in saved.rglob("*") if path.is_file()}
    assert len(modes) == 1


class TestRefused:
    def test_names_that_do_not_fit_the_logits(self, model_folders, tmp_path):
        with pytest.raises(ModelError, match="must have 3 names, one per logit, got 2"):
            saving.save(*make(model_folders["bert"]), tmp_path / "saved", NAMES[:2], {})

    def test_no_folder(self, tmp_path):
        with pytest.raises(ModelError, match=r"classifier\.json"):
            saving.load(tmp_path / "none")

    def test_another_format(self, saved):
        path = saved / "classifier.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
        with pytest.raises(ModelError, match="format 99"):
            saving.load(saved)

    def test_a_head_for_other_labels(self, saved):
        path = saved / "classifier.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "label_names": ["a", "b"]}))
        with pytest.raises(ModelError, match=r"head\.safetensors"):
            saving.load(saved)

    def test_a_missing_head(self, saved):
        (saved / "head.safetensors").unlink()
        with pytest.raises(ModelError, match=r"head\.safetensors"):
            saving.load(saved)

    @pytest.mark.parametrize("change", ["missing", "left over"])
    def test_encoder_weights_that_do_not_match(self, saved, change):
        path = saved / "encoder" / "model.safetensors"
        weights = load_file(path)
        if change == "missing":
            del weights["embeddings.LayerNorm.weight"]
        else:
            weights["embeddings.extra"] = torch.zeros(2)
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"embeddings.(LayerNorm|extra)"):
            saving.load(saved)
