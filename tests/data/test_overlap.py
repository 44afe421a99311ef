import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.dataset import OverlapReport, Split
from trainer.data.overlap import find_leaks, find_overlap, normalise


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
def test_normalised_texts_are_equal_where_only_form_differs(one, other, same):
    assert (normalise(one) == normalise(other)) is same


@given(st.text(alphabet="ab Z\u00e9\u00df7\U0001f602+").filter(str.strip))
def test_space_case_and_a_final_mark_change_nothing(text):
    assert normalise(f"  {text.upper()}! ") == normalise(text)


def test_overlap_counts_examples_of_dev_and_test():
    train, dev, test = (
        split("Thanks!", "only here", "thanks", "see you"),
        split("Thanks!", "new"),
        split("THANKS", "Thanks!", "See you.", "New"),
    )
    assert find_overlap(train, dev, test) == OverlapReport(
        dev_exact=1,
        dev_normalised=1,
        test_exact=1,
        test_normalised=3,
        test_in_dev_exact=1,
        test_in_dev_normalised=3,
        dropped=0,
    )
    assert find_leaks(train, dev, test).tolist() == [True, False, True, True]
    assert find_leaks(dev, test).tolist() == [True, True]
