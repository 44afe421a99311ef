"""Every threshold policy of the table keeps these rules; a new entry is under them without a change here."""

import numpy as np
import pytest

from tests.evaluation.evaluation_helpers import fit_policy
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.thresholds import POLICIES, predict

every_policy = pytest.mark.parametrize("policy", POLICIES)


@pytest.fixture(scope="module")
def arrays():
    """Probabilities (n, k) and labels (n, k) drawn with them."""
    generator = np.random.default_rng(0)
    probabilities = 1 / (1 + np.exp(-generator.normal(-1.0, 1.5, (120, 4))))
    return probabilities, (generator.random((120, 4)) < probabilities).astype(np.float64)


def scored(probabilities, labels):
    names = tuple(f"label {j}" for j in range(labels.shape[1]))
    observed = np.ones(labels.shape, bool)
    return LabelledScores(label_names=names, scores=probabilities, labels=labels, observed=observed)


@every_policy
class TestEveryPolicy:
    def test_gives_one_threshold_per_label(self, policy, arrays):
        thresholds = fit_policy(policy, scored(*arrays), strength=20.0)
        assert thresholds.shape == (4,)
        assert ((thresholds >= 0) & (thresholds <= 1)).all()

    def test_does_not_depend_on_the_order_of_examples(self, policy, arrays):
        probabilities, labels = arrays
        order = np.random.default_rng(1).permutation(len(probabilities))
        expected = fit_policy(policy, scored(probabilities, labels), strength=20.0)
        assert fit_policy(policy, scored(probabilities[order], labels[order]), strength=20.0) == pytest.approx(expected)

    def test_moves_with_the_labels(self, policy, arrays):
        probabilities, labels = arrays
        order = [2, 0, 3, 1]
        expected = fit_policy(policy, scored(probabilities, labels), strength=20.0)[order]
        assert fit_policy(policy, scored(probabilities[:, order], labels[:, order]), strength=20.0) == pytest.approx(
            expected
        )

    def test_predicts_some_positive(self, policy, arrays):
        thresholds = fit_policy(policy, scored(*arrays), strength=20.0)
        assert predict(scored(*arrays).probabilities, thresholds).any()
