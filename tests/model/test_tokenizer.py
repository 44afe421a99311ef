import csv
import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from trainer.model.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(shared_data):
    return load_tokenizer(str(shared_data / "deberta-v3" / "tokenizer"), local_files_only=True)


@pytest.fixture(scope="module")
def texts(shared_data):
    with (shared_data / "goemotions" / "dev.tsv").open(encoding="utf-8", newline="") as lines:
        return [row[0] for row in csv.reader(lines, delimiter="\t")]


def test_its_tokens_are_those_of_sentencepiece(tokenizer, texts, shared_data):
    from sentencepiece import SentencePieceProcessor

    reference = SentencePieceProcessor(model_file=str(shared_data / "deberta-v3" / "tokenizer" / "spm.model"))
    actual = tokenizer(texts, add_special_tokens=False)["input_ids"]
    # Ties between equally likely splits may fall differently.
    different = sum(a != b for a, b in zip(actual, reference.encode(texts), strict=True))
    assert len(texts) > 5000
    assert different <= 2


def test_nothing_is_unknown_to_it(tokenizer, texts):
    rows = tokenizer([*texts, "So proud™ ⛑ \uff46\uff55\uff4c\uff4c", "☃️ \U0001d518"])["input_ids"]
    assert not any(tokenizer.unk_token_id in row for row in rows)


def test_special_tokens_and_padding(tokenizer):
    ids, mask = tokenizer(["So proud of you!", "ok [MASK]"], return_tensors="pt", padding=True).values()
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["[CLS]", "▁So", "▁proud", "▁of", "▁you", "!", "[SEP]"]
    assert ids[1, 2] == 128_000
    assert mask[1].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_it_survives_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = load_tokenizer(str(tmp_path), local_files_only=True)
    text = "So proud™ ⛑ of\tyou  [MASK]"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert len(again) == len(tokenizer) == 128_001


@pytest.mark.parametrize(
    ("normalizer", "tokenizer_class"),
    [
        (None, "RobertaTokenizer"),  # built anew as BPE by transformers
        (normalizers.NFC(), "BertTokenizer"),  # replaced by lower-casing
        (normalizers.NFC(), "PreTrainedTokenizerFast"),
    ],
)
def test_token_ids_are_those_of_tokenizer_json(tmp_path, normalizer, tokenizer_class):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "picnic", "Picnic", "##s", "t", "h", "e", "p"]
    stored = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    stored.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    stored.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if normalizer is not None:
        stored.normalizer = normalizer
    stored.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    special = {f"{name}_token": token for name, token in names.items()}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class, **special}))

    tokenizer = load_tokenizer(str(tmp_path), local_files_only=True)

    assert tokenizer("the picnics Picnic")["input_ids"] == [2, 5, 6, 8, 7, 3]
    assert tokenizer(["the", "the picnic"], padding=True)["input_ids"] == [[2, 5, 3, 0], [2, 5, 6, 3]]
    tokenizer.save_pretrained(tmp_path / "again")
    again = load_tokenizer(str(tmp_path / "again"), local_files_only=True)
    assert again("the picnics Picnic")["input_ids"] == [2, 5, 6, 8, 7, 3]
