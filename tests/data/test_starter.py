import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

import trainer.data
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES, OverlapReport
from trainer.data.sources import load

# The beginnings of words that name a label or are plain forms of its name.
NAMES = {
    "admiration": "admir", "amusement": "amus", "anger": "ang(er|ry|ri)", "annoyance": "annoy", "approval": "approv",
    "caring": "car(e|es|ed|ing)\\b", "confusion": "confus", "curiosity": "curio", "desire": "desir",
    "disappointment": "disappoint", "disapproval": "disapprov", "disgust": "disgust", "embarrassment": "embarras",
    "excitement": "excit", "fear": "fear|afraid", "gratitude": "grat(e|i)", "grief": "grie[fv]", "joy": "joy|enjoy",
    "love": "lov(e|ing|ely)", "nervousness": "nervous", "optimism": "optimis", "pride": "pride|proud",
    "realization": "reali[sz]", "relief": "relie[fv]", "remorse": "remors", "sadness": "sad", "surprise": "surpris",
}  # fmt: skip


@pytest.fixture(scope="module")
def starter():
    return load(DataConfig(overlap="keep"), seed=0)


@pytest.fixture(scope="module")
def rows(starter):
    return [
        (role, text, [starter.label_names[i] for i in np.flatnonzero(labels)])
        for role in ROLES
        for text, labels in zip(getattr(starter, role).texts, getattr(starter, role).labels, strict=True)
    ]


def four_grams(text):
    plain = " ".join(re.sub(r"[^\w\s]", "", unicodedata.normalize("NFKC", text).casefold()).split())
    return {plain[i : i + 4] for i in range(max(1, len(plain) - 3))}


def test_size_and_labels(starter):
    assert [len(getattr(starter, role)) for role in ROLES] == [1052, 224, 224]
    assert len(starter.label_names) == 28
    assert (starter.label_names[0], starter.label_names[-1]) == ("admiration", "neutral")
    ids = [row_id for role in ROLES for row_id in getattr(starter, role).example_ids]
    assert ids == [f"starter-{i:04d}" for i in range(1, 1501)]
    assert starter.licence == "Apache-2.0"


def test_it_is_imbalanced_like_real_data_and_no_label_is_missing_anywhere(starter, rows):
    counts = Counter(label for _, _, labels in rows for label in labels)
    assert 300 <= counts["neutral"] <= 400
    assert 15 <= counts["grief"] == min(counts.values()) <= 20
    for role in ROLES:
        assert (getattr(starter, role).labels.sum(axis=0) >= 2).all(), role
    assert (starter.train.labels.sum(axis=0) >= 12).all()


def test_about_one_example_in_six_has_several_labels_and_neutral_is_alone(rows):
    assert 1 / 7 < np.mean([len(labels) > 1 for _, _, labels in rows]) < 1 / 5
    assert all(labels for _, _, labels in rows)
    assert not [text for _, text, labels in rows if "neutral" in labels and len(labels) > 1]


def test_at_most_one_example_in_five_names_its_own_label(rows):
    emotional = [(text, labels) for _, text, labels in rows if labels != ["neutral"]]
    named = [t for t, labels in emotional if any(re.search(rf"\b({NAMES[name]})", t, re.I) for name in labels)]
    assert len(emotional) > 1000
    assert 0 < len(named) <= len(emotional) / 5


def test_no_two_splits_have_equal_or_similar_texts(starter, rows):
    assert starter.overlap == OverlapReport()
    roles, texts, _ = zip(*rows, strict=True)
    grams = CountVectorizer(analyzer=four_grams, binary=True).fit_transform(texts)
    shared = (grams @ grams.T).toarray()
    sizes = shared.diagonal()
    similarity = shared / (sizes[:, None] + sizes[None, :] - shared)
    apart = np.array(roles)[:, None] != np.array(roles)[None, :]
    assert apart.sum() == 2 * (1052 * 448 + 224 * 224)
    assert [(texts[i], texts[j]) for i, j in np.argwhere(apart & (similarity >= 0.5))] == []


def test_comments_vary(rows):
    openings = Counter(" ".join(text.casefold().split()[:2]) for _, text, _ in rows)
    assert max(openings.values()) <= 12
    words = np.array([len(text.split()) for _, text, _ in rows])
    assert words.min() <= 2
    assert words.max() >= 30
    assert words.std() > 4


def test_data_card_has_the_counts_of_the_files(starter, rows):
    card = (Path(trainer.data.__file__).parent / "starter" / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", card, re.M)
    counts = Counter((role, label) for role, _, labels in rows for label in labels)
    assert len(table) == 28
    for label, *numbers in table:
        per_role = [counts[role, label] for role in ROLES]
        assert [int(number) for number in numbers] == [*per_role, sum(per_role)], label
    assert f"{sum(len(labels) > 1 for _, _, labels in rows)} rows" in card
