import csv

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trainer.core.errors import DataError
from trainer.data import tokenization
from trainer.data.tokenization import tokenize

TEXTS = ["a b c", "b", "c c c c c c c", "a unknown"]


def make_tokenizer(words="abc"):
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def rows(encoded):
    return [encoded.ids[a:b].tolist() for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]


def test_texts_are_truncated_with_their_special_tokens_complete():
    encoded = tokenize(TEXTS, make_tokenizer(), max_length=5)
    assert rows(encoded) == [[2, 4, 5, 6, 3], [2, 5, 3], [2, 6, 6, 6, 3], [2, 4, 1, 3]]
    assert encoded.lengths.tolist() == [5, 3, 5, 4]
    assert (encoded.truncated, encoded.truncation_rate) == (1, 0.25)
    assert (encoded.ids.dtype, encoded.offsets.dtype) == (np.int32, np.int64)


def test_no_texts_have_no_tokens():
    assert len(tokenize([], make_tokenizer(), max_length=5)) == 0


def same(one, other):
    return rows(one) == rows(other) and one.truncated == other.truncated


def test_a_second_call_reads_the_cache_of_the_first(tmp_path, monkeypatch):
    tokenizer = make_tokenizer()
    first = tokenize(TEXTS, tokenizer, max_length=5, cache_folder=tmp_path / "new" / "cache")
    monkeypatch.setattr(tokenization, "_tokenize", lambda *_: pytest.fail("encoded again"))
    second = tokenize(TEXTS, tokenizer, max_length=5, cache_folder=tmp_path / "new" / "cache")
    third = tokenize(TEXTS, make_tokenizer(), max_length=5, cache_folder=tmp_path / "new" / "cache")
    assert same(first, second)
    assert same(first, third)
    assert [path.suffix for path in (tmp_path / "new" / "cache").iterdir()] == [".npz"]


@pytest.mark.parametrize(
    ("texts", "words", "max_length"),
    [(TEXTS[::-1], "abc", 5), (["a bb c", *TEXTS[1:]], "abc", 5), (TEXTS, "acb", 5), (TEXTS, "abc", 6)],
    ids=["order", "text", "tokenizer", "max_length"],
)
def test_everything_that_tokens_depend_on_has_its_own_file(tmp_path, texts, words, max_length):
    tokenize(TEXTS, make_tokenizer(), max_length=5, cache_folder=tmp_path)
    cached = tokenize(texts, make_tokenizer(words), max_length=max_length, cache_folder=tmp_path)
    assert same(cached, tokenize(texts, make_tokenizer(words), max_length=max_length))
    assert len(list(tmp_path.iterdir())) == 2


class SlowTokenizer:
    """A tokenizer without a fast backend, as transformers has them for rare models."""

    def __init__(self, offset):
        self.offset = offset

    def __call__(self, texts, *, max_length, **_):
        return {"input_ids": [[self.offset + len(word) for word in text.split()][:max_length] for text in texts]}

    def save_pretrained(self, folder):
        from pathlib import Path

        (Path(folder) / "vocabulary.txt").write_text(str(self.offset))


def test_a_tokenizer_without_backend_is_identified_by_its_files(tmp_path):
    for offset in (0, 0, 1):
        encoded = tokenize(TEXTS, SlowTokenizer(offset), max_length=5, cache_folder=tmp_path)
        assert encoded.ids[0] == offset + 1
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"not a zip", "cut", "flipped", "other"])
def test_a_damaged_file_is_replaced(tmp_path, caplog, damage):
    whole = tokenize(TEXTS, make_tokenizer(), max_length=5, cache_folder=tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    if damage == "other":
        np.savez(path, ids=np.arange(3, dtype=np.int32), offsets=np.array([0, 3]), truncated=0)
    elif damage == "flipped":
        middle = content.index(b"NUMPY") + 140
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else damage)
    assert same(tokenize(TEXTS, make_tokenizer(), max_length=5, cache_folder=tmp_path), whole)
    assert "tokenized again" in caplog.text
    caplog.clear()
    assert same(tokenize(TEXTS, make_tokenizer(), max_length=5, cache_folder=tmp_path), whole)
    assert caplog.text == ""


def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DataError, match=r"No space left.*Free disk space"):
        tokenize(TEXTS, make_tokenizer(), max_length=5, cache_folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_real_tokenizer_gives_the_same_tokens_as_one_text_at_a_time(shared_data):
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "deberta-v3" / "tokenizer")
    with (shared_data / "goemotions" / "dev.tsv").open(encoding="utf-8", newline="") as file:
        texts = [row[0] for row in csv.reader(file, delimiter="\t")][:200]
    encoded = tokenize(texts, tokenizer, max_length=16)
    expected = [tokenizer(text, truncation=True, max_length=16)["input_ids"] for text in texts]
    assert rows(encoded) == expected
    assert encoded.truncated == sum(len(tokenizer(text)["input_ids"]) > 16 for text in texts) > 0
