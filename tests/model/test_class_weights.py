import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from trainer.core.errors import DataError, SettingsError
from trainer.model.class_weights import class_weights, label_frequencies
from trainer.model.config import LossConfig

NAMES = ("joy", "grief", "neutral")


def split(counts, rows=100):
    labels = np.zeros((rows, len(counts)), dtype=np.float32)
    for column, count in enumerate(counts):
        labels[:count, column] = 1
    return labels, np.ones_like(labels, dtype=bool)


def weights(kind, counts, **changes):
    return class_weights(LossConfig(class_weights=kind, **changes), *split(counts), NAMES)


def test_none_weighs_all_alike():
    assert weights("none", (5, 1, 60)).tolist() == [1, 1, 1]


def test_balanced_is_the_rows_over_the_positives():
    np.testing.assert_allclose(weights("balanced", (5, 1, 60)), [100 / 15, 100 / 3, 100 / 180])


def test_balanced_is_scikit_learns_where_labels_exclude_each_other():
    labels = np.eye(3, dtype=np.float32)[[0] * 30 + [1] * 10 + [2] * 60]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.argmax(axis=1))
    actual = class_weights(LossConfig(class_weights="balanced"), labels, labels >= 0, NAMES)
    np.testing.assert_allclose(actual, expected)


def test_balanced_on_goemotions_counts():
    """The rarest and the most frequent label of the official train split: 77 and 14,219 of 43,410 rows."""
    labels, _ = split((77, 14_219), rows=43_410)
    padded = np.pad(labels, ((0, 0), (0, 26)), constant_values=1)
    actual = class_weights(LossConfig(class_weights="balanced"), padded, padded >= 0, [str(i) for i in range(28)])
    np.testing.assert_allclose(actual[:2], [20.13, 0.109], atol=5e-3)


def test_effective_number_follows_the_paper():
    raw = np.array([(1 - 0.9) / (1 - 0.9**count) for count in (5, 1, 60)])
    np.testing.assert_allclose(weights("effective_number", (5, 1, 60), effective_number_beta=0.9), raw / raw.mean())


@given(st.floats(0, 1, exclude_max=True), st.tuples(*[st.integers(1, 100)] * 3))
def test_effective_numbers_have_mean_one_and_favour_the_rare(beta, counts):
    actual = weights("effective_number", counts, effective_number_beta=beta)
    assert actual.mean() == pytest.approx(1)
    assert (np.diff(actual[np.argsort(counts)]) <= 1e-9).all()


def test_effective_number_goes_from_equal_to_inverse_frequency():
    assert weights("effective_number", (5, 1, 60), effective_number_beta=0).tolist() == [1, 1, 1]
    inverse = 1 / np.array([5, 1, 60])
    near = weights("effective_number", (5, 1, 60), effective_number_beta=1 - 1e-9)
    np.testing.assert_allclose(near, inverse / inverse.mean(), rtol=1e-5)


def test_unobserved_cells_count_neither_as_rows_nor_as_positives():
    labels, observed = split((40, 10, 60))
    observed[50:, 0] = False
    observed[:5, 1] = False
    np.testing.assert_allclose(label_frequencies(labels, observed, NAMES), [40 / 50, 5 / 95, 0.6])
    actual = class_weights(LossConfig(class_weights="balanced"), labels, observed, NAMES)
    np.testing.assert_allclose(actual, [50 / 120, 95 / 15, 100 / 180])


@pytest.mark.parametrize("kind", ["balanced", "effective_number"])
def test_a_label_without_positives_is_named(kind):
    with pytest.raises(DataError, match="got none for grief"):
        weights(kind, (5, 0, 60))
    with pytest.raises(DataError, match="got none for grief"):
        label_frequencies(*split((5, 0, 60)), NAMES)


class TestFile:
    def write(self, folder, content):
        path = folder / "weights.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    def test_its_weights_come_in_the_order_of_the_labels(self, tmp_path):
        path = self.write(tmp_path, {"neutral": 0.5, "joy": 2, "grief": 7.5})
        assert weights(path, (5, 0, 60)).tolist() == [2, 7.5, 0.5]

    @pytest.mark.parametrize(
        ("content", "rule"),
        [
            ({"joy": 1, "greif": 1, "neutral": 1}, "got greif.*`grief`"),
            ({"joy": 1, "neutral": 1}, "every label, got none for grief"),
            ({"joy": 1, "grief": 0, "neutral": 1}, "grief .* must be a positive number, got 0"),
            ({"joy": True, "grief": 1, "neutral": 1}, "joy .* must be a positive number, got true"),
            ('{"joy": NaN, "grief": 1, "neutral": 1}', "joy .* must be a positive number, got NaN"),
            ({"joy": "2", "grief": 1, "neutral": 1}, 'joy .* must be a positive number, got "2"'),
            ([1, 2, 3], "one object"),
            ("{", "must be a readable JSON file"),
            ('{"joy": 1' + "0" * 400 + "}", "must be a readable JSON file"),
            ('{"joy": ' + "[" * 100_000, "must be a readable JSON file"),
        ],
    )
    def test_one_that_does_not_fit_is_refused(self, tmp_path, content, rule):
        with pytest.raises(SettingsError, match=rule):
            weights(self.write(tmp_path, content), (5, 1, 60))

    def test_a_missing_one_is_refused(self, tmp_path):
        with pytest.raises(SettingsError, match="must be a readable JSON file"):
            weights(str(tmp_path / "none.json"), (5, 1, 60))

    def test_an_endless_one_is_refused(self, tmp_path):
        (tmp_path / "zero.json").symlink_to("/dev/zero")
        with pytest.raises(SettingsError, match=r"zero\.json: not a regular file"):
            weights(str(tmp_path / "zero.json"), (5, 1, 60))
