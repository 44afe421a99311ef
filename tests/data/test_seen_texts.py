"""Digests of training texts: what they recognise, what they cost, and how a damaged file is reported."""

import numpy as np
import pytest

from trainer.core.errors import ModelError
from trainer.data.dataset import Dataset, OverlapReport, Split
from trainer.data.seen_texts import SeenTexts, read_seen_texts


def split(*texts):
    ones = np.ones((len(texts), 1), np.float32)
    return Split(texts=texts, labels=ones, observed=ones.astype(bool), example_ids=tuple(map(str, range(len(texts)))))


@pytest.fixture
def dataset():
    parts = {"train": split("So proud of you!", "I miss her", "i miss her."), "dev": split("fine"), "test": split("no")}
    return Dataset(
        name="d",
        label_names=("joy",),
        source="d",
        licence="none",
        overlap=OverlapReport(),
        added=split("added"),
        **parts,
    )


def test_texts_of_train_and_dev_are_recognised_whatever_their_case_and_punctuation(dataset, tmp_path):
    seen = read_seen_texts(SeenTexts.of(dataset).write(tmp_path / "seen.safetensors"))
    texts = ["so proud of you", "I MISS HER...", "added", "fine", "no", "so proud of"]

    assert seen.in_train(texts).tolist() == [True, True, True, False, False, False]
    assert seen.in_dev(texts).tolist() == [False, False, False, True, False, False]
    assert seen.train.nbytes == 3 * 8  # equal texts once


def test_digests_are_those_of_earlier_versions(dataset):
    assert SeenTexts.of(dataset).dev.tolist() == [13304201646811138769]


@pytest.mark.parametrize("content", [b"", b"no safetensors", None])
def test_a_damaged_file_is_an_error_with_its_name(tmp_path, content):
    path = tmp_path / "seen.safetensors"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ModelError, match=r"seen\.safetensors"):
        read_seen_texts(path)
