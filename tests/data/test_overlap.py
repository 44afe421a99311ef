import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.core.errors import DataError
from trainer.data.dataset import OverlapReport, Split
from trainer.data.overlap import find_overlap, normalise, sample_examples


def split(*texts):
    return Split(
        texts=texts,
        labels=np.ones((len(texts), 1), dtype=np.float32),
        observed=np.ones((len(texts), 1), dtype=bool),
        example_ids=tuple(map(str, range(len(texts)))),
    )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Thank you!", "thank   you", True),
        ("it's", "ITS", True),
        ("\uff48\uff45\uff4c\uff4c\uff4f", "hello", True),
        ("STRASSE", "straße", True),
        ("snake_case", "snakecase", True),
        ("lol 😂", "lol", False),
        ("I <3 it", "I 3 it", False),
        ("?!", "...", False),
        ("a b", "ab", False),
    ],
)
def test_normalised_texts_meet_where_only_form_differs(one, other, same):
    assert (normalise(one) == normalise(other)) is same


@given(st.text(alphabet="ab Z\u00e9\u00df7\U0001f602+").filter(str.strip))
def test_space_case_and_a_final_mark_change_nothing(text):
    assert normalise(f"  {text.upper()}! ") == normalise(text)


def test_overlap_counts_rows_of_dev_and_test_and_blames_train():
    report, leaked = find_overlap(
        split("Thanks!", "only here", "thanks", "see you"),
        split("Thanks!", "new"),
        split("THANKS", "Thanks!", "See you."),
    )
    assert report == OverlapReport(dev_exact=1, dev_normalised=1, test_exact=1, test_normalised=3, dropped=0)
    assert leaked.tolist() == [True, False, True, True]


@given(st.integers(20, 60), st.integers(0, 2**32))
def test_a_sample_has_its_size_every_label_and_a_seed(count, seed):
    labels = np.zeros((60, 12), dtype=np.float32)
    labels[np.arange(60), np.minimum(np.arange(60), 11)] = 1
    rows = sample_examples(labels, count, seed=seed)
    assert len(set(rows.tolist())) == count
    assert (np.diff(rows) > 0).all()
    assert labels[rows].any(axis=0).all()
    assert (rows == sample_examples(labels, count, seed=seed)).all()


def test_samples_of_two_seeds_differ():
    labels = np.ones((1000, 1), dtype=np.float32)
    assert sample_examples(labels, 50, seed=1).tolist() != sample_examples(labels, 50, seed=2).tolist()


def test_a_sample_too_small_for_its_labels_is_refused():
    with pytest.raises(DataError, match="max_train_rows=2 where 3 rows are needed"):
        sample_examples(np.eye(3, dtype=np.float32), 2, seed=0)
