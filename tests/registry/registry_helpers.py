"""Made-up finished training runs for the tests of the registry, and the commands in this process."""

import contextlib
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from registry import history, promote, rollback
from registry.promotion.gate import ModelScores
from registry.promotion.model_check import ModelCheck
from registry.store.decision_log import DecisionLog
from trainer.core import artifacts
from trainer.core.text_files import write_json
from trainer.evaluation.arrays import LabelledScores
from trainer.evaluation.calibration import Calibration
from trainer.runs import results
from trainer.runs.results import Predictions
from trainer.tracking.run import open_run

MODEL = "emotions"
FINE = ModelCheck(
    examples=300,
    score_difference=1e-8,
    label_differences=0,
    setting_differences=(),
    latency_ms_p50=5.0,
    latency_ms_p95=9.0,
    size_mb=1.0,
    load_seconds=0.5,
)
LABELS = ("anger", "grief", "joy")
ROWS = 300
CALIBRATION = Calibration(temperature=1.5, bias=-0.25)
_MLMODEL = "flavors: {python_function: {loader_module: none}}\nmodel_uuid: m-0\nutc_time_created: '2026-01-01'\n"


class Commands:
    """The commands of the registry in this process, and what they leave on the server and on the terminal."""

    def __init__(self, client, folder):
        self.client, self.folder, self.text = client, folder, ""

    def run(self, quality, **more):
        return make_run(self.folder / "runs", quality, **more)

    def promote(self, *arguments):
        return self._do(promote.main, "--floor_macro_f1", "0.1", *arguments)

    def rollback(self, *arguments):
        return self._do(rollback.main, *arguments)

    def history(self):
        return self._do(history.main)

    def _do(self, command, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command(list(arguments))
        self.text = " ".join((out.getvalue() + err.getvalue()).split())
        return status

    def aliases(self):
        aliases = self.client.get_registered_model(MODEL).aliases
        return {alias: int(version) for alias, version in aliases.items()}

    def run_of(self, alias):
        return self.client.get_model_version_by_alias(MODEL, alias).run_id

    def decisions(self):
        return DecisionLog(self.client, MODEL).read()[0]

    def versions(self):
        return len(self.client.search_model_versions(f"name = '{MODEL}'"))

    def decision_runs(self):
        """Runs of promotions and rollbacks, the newest first."""
        return self.client.search_runs(["1"], f"tags.{artifacts.TAG_COMMAND} != ''", order_by=["start_time DESC"])

    @property
    def last_run(self):
        return self.decision_runs()[0]

    def last(self):
        """Content of the newest promotion.json, from the server."""
        path = self.client.download_artifacts(self.last_run.info.run_id, artifacts.PROMOTION, str(self.folder))
        return json.loads(Path(path).read_text())


def make_truth(rows=ROWS, labels=LABELS, seed=0):
    """Labels (n, k), each present in a third of the rows."""
    return (np.random.default_rng(seed).random((rows, len(labels))) < 1 / 3).astype(np.float32)


def make_logits(truth, quality, seed=1):
    """Logits (n, k) of a model that is right more often the higher its quality is, and calibrated."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(truth.shape) > quality
    says = np.where(wrong, 1 - truth, truth)
    odds = np.log(quality / (1 - quality))
    prior = np.log(1 / 2)  # of a label that is present in a third of the rows
    return (CALIBRATION.temperature * (np.where(says > 0.5, odds, -odds) + prior - CALIBRATION.bias)).astype(np.float32)


def make_scored(quality, truth=None, seed=1, names=LABELS):
    """A model as the gate sees it."""
    truth = make_truth() if truth is None else truth
    logits = make_logits(truth, quality, seed)
    return ModelScores(
        LabelledScores(
            label_names=names,
            scores=CALIBRATION.probabilities(logits),
            labels=truth,
            observed=np.ones(truth.shape, dtype=bool),
        ),
        thresholds=np.full(truth.shape[1], 0.5),
    )


def make_run(
    output: Path,
    quality: float,
    *,
    dev_score: float | None = None,
    truth=None,
    names=LABELS,
    seed=1,
    left_in_train=0,
    retrain_from="",
    without=(),
    model=True,
    dev_digest=None,
    status="FINISHED",
    experiment=None,
    loss="bce",
):
    """Run id of a training run on the tracking server, with what `trainer.train` leaves for the registry to read."""
    truth = make_truth() if truth is None else truth
    logits = make_logits(truth, quality, seed)
    digests = {role: f"{role}-{abs(hash(truth.tobytes())):x}-{len(names)}" for role in ("train", "dev", "test")}
    digests["dev"] = "dev" if dev_digest is None else dev_digest
    settings = {"seed": seed, "loss": loss, "retrain_from": retrain_from}
    with open_run(output, experiment=experiment, parameters=settings) as tracker:
        folder = tracker.folder
        split = Predictions(
            scores=logits,
            labels=truth,
            observed=np.ones(truth.shape, dtype=bool),
            example_ids=tuple(f"row{row}" for row in range(len(truth))),
            texts=tuple(f"text {row}" for row in range(len(truth))),
            label_names=names,
        )
        contents = {
            artifacts.CONFIG: settings,
            artifacts.LABELS: list(names),
            artifacts.PER_LABEL: {"columns": [], "data": []},
            artifacts.CALIBRATION: asdict(CALIBRATION) | {"method": "platt"},
            artifacts.THRESHOLDS: {
                "default_policy": "fixed",
                "policies": {"fixed": dict.fromkeys(names, 0.5)},
                "shrinkage_strength": 5.0,
                "crossfitted_macro_f1": {"fixed": quality},
                "optimism": {"fixed": 0.0},
            },
            artifacts.DATASET: {
                "name": "made up",
                "digests": digests,
                "left_in_train": {"test": left_in_train} | ({} if retrain_from else {"dev": 0}),
            },
        }
        for name, content in contents.items():
            write_json(folder / name, content)
        for name in (artifacts.REPORT, artifacts.MODEL_CARD):
            (folder / name).write_text(f"run of quality {quality}")
        for role in ("test",) if retrain_from else ("dev", "test"):
            results.write_predictions(folder, role, split)
        for name in without:
            (folder / name).unlink()
        tags = {f"{artifacts.TAG_DATA_DIGEST}.{role}": digest for role, digest in digests.items() if digest}
        tracker.set_tags(tags)
        score = quality if dev_score is None else dev_score
        if not retrain_from:
            tracker.log_metrics({artifacts.final_metric("dev/macro_f1"): score}, 1)
        tracker.log_artifacts()
        if model:
            target = folder / "model"
            target.mkdir()
            (target / "MLmodel").write_text(_MLMODEL)
            tracker.log_model(target, 1)
    if status != "FINISHED":
        tracker._backend.client.set_terminated(tracker.run_id, status)
    return tracker.run_id
