"""Stands in for the trainings of a comparison: what `fake_training` does, and the files that a comparison reads."""

import json
import sys
from functools import cache

import numpy as np

from tests.tuning import fake_training
from tests.tuning.comparison.compared_runs import make_split
from trainer.core import artifacts
from trainer.core.environment import code_digest
from trainer.data import sources
from trainer.data.config import DataConfig
from trainer.evaluation.evaluation import add_test, evaluate_dev
from trainer.runs import results

_DRAWN = ("dataset", "folds", "fold", "seed")
_STRENGTH = {"bce": 1.0, "asl": 1.1, "combined": 2.0}


def train(settings, folder, log=lambda metrics: None):
    fake_training.train(settings, folder, log)
    strength = _STRENGTH[settings["loss"]]
    splits = {role: make_split(role, settings["seed"], strength=strength) for role in ("dev", "test")}
    if settings["fold"]:
        held_out = np.arange(splits["dev"].num_examples) % settings["folds"] == settings["fold"] - 1
        splits["dev"] = splits["dev"].take(np.flatnonzero(held_out))
    dev = evaluate_dev(splits["dev"], calibration="none", policy="global", folds=3, seed=0)
    evaluation = add_test(dev, splits["test"], resamples=2, seed=0)
    results.write_tables(folder, evaluation, None)
    for role, split in splits.items():
        results.write_predictions(folder, role, split)
    (folder / artifacts.ENVIRONMENT).write_text(json.dumps({"code_digest": code_digest()}))
    (folder / artifacts.DATASET).write_text(json.dumps({"digests": _digests(*(settings[name] for name in _DRAWN))}))
    scores = {name: value for name, value in evaluation.metrics().items() if np.isfinite(value)}
    (folder / artifacts.OUTCOME).write_text(json.dumps({**scores, "train/steps": 8, "train/schedule_steps": 8}))


@cache
def _digests(dataset, folds, fold, seed):
    return sources.load(DataConfig(dataset=dataset, folds=folds, fold=fold), seed=seed).digests


if __name__ == "__main__":
    sys.exit(fake_training.main(sys.argv[1:], train))
