import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.core.errors import DataError
from trainer.data.sampling import sample_examples


@given(st.integers(20, 60), st.integers(0, 2**32))
def test_a_sample_has_its_size_every_label_and_a_seed(count, seed):
    labels = np.zeros((60, 12), dtype=np.float32)
    labels[np.arange(60), np.minimum(np.arange(60), 11)] = 1
    examples = sample_examples(labels, count, seed=seed)
    assert len(set(examples.tolist())) == count
    assert (np.diff(examples) > 0).all()
    assert labels[examples].any(axis=0).all()
    assert (examples == sample_examples(labels, count, seed=seed)).all()


def test_samples_of_two_seeds_differ():
    labels = np.ones((1000, 1), dtype=np.float32)
    assert sample_examples(labels, 50, seed=1).tolist() != sample_examples(labels, 50, seed=2).tolist()


def test_a_sample_too_small_for_its_labels_is_refused():
    with pytest.raises(DataError, match=r"max_train_rows.* 3, .* got 2"):
        sample_examples(np.eye(3, dtype=np.float32), 2, seed=0)
