import csv

import pytest

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
