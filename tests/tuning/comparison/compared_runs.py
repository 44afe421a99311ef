"""Finished runs with made-up logits and real files, as the report of a comparison reads them."""

import json
from pathlib import Path

import numpy as np

from trainer.core import artifacts
from trainer.evaluation.calibration import Calibration, calibrate
from trainer.evaluation.calibration_fit import CalibrationChoice
from trainer.evaluation.cross_validation import PolicyChoice
from trainer.evaluation.evaluation import Evaluation, add_test
from trainer.evaluation.metrics import confusion_counts
from trainer.evaluation.threshold_search import ThresholdCandidates
from trainer.evaluation.thresholds import POLICIES, FittedThresholds
from trainer.runs import results
from trainer.runs.results import Predictions
from tuning.comparison.results import ComparedRun, ComparisonPlan

LABELS = ("joy", "anger", "grief")
RATES = (0.4, 0.25, 0.1)


def make_plan(*names, seeds=(1, 2), **changes):
    """A plan that compares every configuration with the first."""
    values = {
        "name": "losses",
        "configurations": {name: {"loss": name} for name in names},
        "seeds": seeds,
        "metric": "macro_f1",
        "planned": tuple((name, names[0]) for name in names[1:]),
        "min_effect": 0.01,
        "resamples": 300,
        "written": "2026-01-01T10:00:00+00:00",
        "exploratory": (),
    }
    return ComparisonPlan(**{**values, **changes})


def make_split(role, seed, *, strength, examples=160, rates=RATES, names=LABELS, shift=0.0, only=slice(None)):
    """Logits that `strength` standard deviations tell from those of negatives. Labels depend on the role alone."""
    labels = np.random.default_rng([7, len(role)]).random((examples, len(rates))) < np.array(rates)
    shared, own = (np.random.default_rng([len(role), number]).normal(size=labels.shape) for number in (0, seed + 1))
    noise = shared + 0.1 * own  # what is hard for one seed is hard for another
    logits = strength * (labels - 0.5) * 2 + noise + np.log(np.array(rates)) + shift
    split = Predictions(
        label_names=names,
        scores=logits.astype(np.float32),
        labels=labels.astype(np.float32),
        observed=np.ones_like(labels),
        example_ids=tuple(f"{role}-{number}" for number in range(examples)),
        texts=tuple(f"text {number}" for number in range(examples)),
    )
    return split.take(np.arange(examples)[only])


def make_run(output, configuration, seed, *, strength=1.2, costs=True, settings=(), **options):
    """Write the files of a finished run and return its record."""
    run_id = f"{configuration}-{seed}".replace(":", "").ljust(32, "0")[:32]
    folder = Path(output) / run_id
    splits = {role: make_split(role, seed, strength=strength, **options) for role in ("dev", "test")}
    evaluation = add_test(choose_on(splits["dev"]), splits["test"], resamples=20, seed=0)
    folder.mkdir(parents=True)
    results.write_tables(folder, evaluation, None)
    for role, split in splits.items():
        results.write_predictions(folder, role, split)
    taken = {artifacts.TRAIN_SAMPLES: 320.0, artifacts.TRAIN_STEPS: 10.0, artifacts.TRAIN_SECONDS: 60.0 + seed}
    scores = evaluation.metrics() | (taken if costs else {})
    (folder / artifacts.OUTCOME).write_text(json.dumps(scores))
    write_events(folder, run_id, scores["dev/final/macro_f1"], seed)
    return ComparedRun(
        configuration=configuration,
        seed=seed,
        run_id=run_id,
        folder=folder,
        state="finished",
        cause="",
        reused=False,
        settings={"seed": seed, "loss": configuration, **dict(settings)},
        scores=scores,
        seconds=None,
    )


def choose_on(dev):
    """What a training chooses on dev; by fewer trials than there, so that a test is quick."""
    calibration = Calibration(temperature=1.1)
    scores = calibrate(dev, calibration)
    fitted = FittedThresholds.of(ThresholdCandidates.of(scores))
    chosen = {name: fitted.choose(name, 20.0) for name in POLICIES}
    score = confusion_counts(scores, scores.probabilities >= chosen["global"]).macro_f1
    return Evaluation(
        label_names=dev.label_names,
        calibration_choice=CalibrationChoice(method="temperature", calibration=calibration, scores={}, reason=""),
        thresholds=chosen,
        policy="global",
        choice=PolicyChoice("global", 20.0, dict.fromkeys(POLICIES, score), dict.fromkeys(POLICIES, 0.0)),
        calibration_errors={},
        dev={"macro_f1": score},
        per_label={},
    )


def write_events(folder, run_id, score, seed):
    """An event log of a training of a minute, which was stopped for five minutes and resumed."""

    def line(time, kind, **content):
        return json.dumps({"time": time, "run_id": run_id, "kind": kind, "content": content})

    lines = [line(1_000_000, "open", uri="http://host", name="run")]
    for step in range(1, 11):
        metrics = {"train/grad_norm": 5.0 / step + seed / 10}
        if step % 2 == 0:
            metrics["dev/macro_f1"] = score * (1 - 0.5**step)
        away = 300_000 if step > 5 else 0
        if step == 6:
            lines.append(line(1_032_000 + away, "open", uri="http://host", name="run"))
        lines.append(line(1_000_000 + 6000 * step + away, "metrics", metrics=metrics, step=step))
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
