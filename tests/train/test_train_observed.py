"""Cells that were not annotated count in no loss and no metric, from the file to the scores."""

import csv

import numpy as np
import pytest
from sklearn.metrics import f1_score
from train_helpers import LABELS, ROWS, predictions, read_split


@pytest.fixture
def masks(own_data):
    """Write the data with one column per label and a third of the cells empty; role → (n, k) observed."""
    rng = np.random.default_rng(0)
    masks = {}
    for role in ROWS:
        rows = read_split(own_data / f"{role}.csv")
        masks[role] = rng.random((len(rows), len(LABELS))) > 1 / 3
        masks[role][:, 0] |= ~masks[role].any(axis=1)  # a row without any annotation is refused
        with (own_data / f"{role}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", *LABELS])
            for row, observed in zip(rows, masks[role], strict=True):
                present = row["labels"].split("|")
                cells = zip(LABELS, observed, strict=True)
                writer.writerow([row["text"], *(int(name in present) if seen else "" for name, seen in cells)])
    return masks


def test_only_annotated_cells_count(observe, own_data, masks):
    seen = observe(dataset=own_data, loss="bce", read_test="true")
    assert seen.status == 0, seen.error
    for role in ("dev", "test"):
        _, arrays = predictions(seen.tracker.folder, role)
        labels, observed, logits = (arrays[name] for name in ("labels", "observed", "logits"))
        np.testing.assert_array_equal(observed, masks[role])
        assert not labels[~observed].any()
        rows = {row["label"]: row for row in seen.outcome.per_label[role]}
        for column, name in enumerate(LABELS):
            cells = observed[:, column]
            assert rows[name]["support"] == labels[cells, column].sum()
            if role == "test":
                threshold = seen.outcome.thresholds[seen.outcome.policy][column]
                positive = seen.outcome.calibration.probabilities(logits[cells, column]) >= threshold
                assert rows[name]["f1"] == pytest.approx(f1_score(labels[cells, column], positive, zero_division=0))
        if role == "dev":
            loss = np.logaddexp(0, logits) - labels * logits
            assert seen.series("dev/loss")[-1][1] == pytest.approx((loss * observed).sum() / len(loss), rel=1e-4)
