"""Names of the files, metrics and tags of a run. Training writes them; the registry and the search read them."""

import re
from collections.abc import Mapping

__all__ = [
    "BEST_STEP",
    "CALIBRATION",
    "CHECKPOINTS",
    "CHECK_RESULT",
    "CHECK_SCORES",
    "CLASSIFIER",
    "CONFIG",
    "DATA",
    "DATASET",
    "DEFAULT_EXPERIMENT",
    "ENVIRONMENT",
    "ERRORS",
    "EVALUATE",
    "EVALUATED",
    "EVALUATION",
    "EXAMPLE_TEXT",
    "FIGURES",
    "FOLDS",
    "FOLD_RUNS",
    "HEADLINES",
    "LABELS",
    "LABEL_ERRORS",
    "LABEL_ERROR_COUNTS",
    "MISSED_LABELS",
    "MODEL",
    "MODEL_CARD",
    "MODEL_CARD_PAGE",
    "MODEL_LATENCY_MS",
    "MODEL_PARAMETERS",
    "MODEL_SIZE_MB",
    "NESTED_MACRO_F1",
    "OUTCOME",
    "OUT_OF_FOLD",
    "PARAMETER_PREFIX",
    "PER_LABEL",
    "PREDICTIONS",
    "PROMOTION",
    "REGISTERED_MODEL",
    "REPORT",
    "SCHEDULE_STEPS",
    "SCORES",
    "SEEN_TEXTS",
    "SHORT_DIGEST",
    "SLICES",
    "TAG_ATTENTION",
    "TAG_COMMAND",
    "TAG_CONFIGURATION",
    "TAG_DATA_DIGEST",
    "TAG_DATA_OVERLAP",
    "TAG_DATA_PADDING",
    "TAG_DATA_TRUNCATED",
    "TAG_ERROR",
    "TAG_GIT_COMMIT",
    "TAG_GIT_DIRTY",
    "TAG_MODEL_COMMIT",
    "TAG_MODEL_DIGEST",
    "TAG_MODEL_SOURCE",
    "TAG_NOTE",
    "TAG_PRESET",
    "TAG_RESUMES",
    "TAG_STUDY",
    "TAG_TRIAL",
    "TAG_TRIAL_STATE",
    "TAG_WINNER",
    "THRESHOLDS",
    "THRESHOLD_SWEEP",
    "TRAIN_EPOCH",
    "TRAIN_GRAD_NORM",
    "TRAIN_LEARNING_RATE",
    "TRAIN_LOSS",
    "TRAIN_MAX_GRAD_NORM",
    "TRAIN_MEAN_GRAD_NORM",
    "TRAIN_SAMPLES",
    "TRAIN_SAMPLES_PER_SECOND",
    "TRAIN_SECONDS",
    "TRAIN_STEPS",
    "TRIAL_LOG",
    "UPLOADED",
    "check_metric_name",
    "final_metric",
    "final_score",
    "metric",
    "policy_metric",
    "predictions_file",
    "train_joules",
]

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
DATASET = "dataset.json"
LABELS = "labels.json"
THRESHOLDS = "thresholds.json"
CALIBRATION = "calibration.json"
SCORES = "scores.json"
PER_LABEL = "per_label.json"
ERRORS = "errors.json"
MISSED_LABELS = "missed_labels.json"
SLICES = "slices.json"
LABEL_ERRORS = "label_errors.json"
LABEL_ERROR_COUNTS = "label_error_counts.json"
THRESHOLD_SWEEP = "threshold_sweep.json"
SEEN_TEXTS = "seen_texts.safetensors"
"""Digests of the texts of train and dev; also among the artifacts of the saved model."""
OUT_OF_FOLD = "out_of_fold"
"""Role of the predictions of each example of train and dev by the run of the fold that held it out."""
FOLDS = "folds.json"
"""Table of the folds, on the parent run of a cross-validation."""
FOLD_RUNS = "fold_runs.json"
"""Only in the run folder of a cross-validation: fold → id of its run."""
PREDICTIONS = "predictions"
EVALUATED = f"{PREDICTIONS}/evaluated.parquet"
"""Predictions of an evaluation, in the labels that the model shares with the data."""
FIGURES = "figures"
REPORT = "report.html"
EVALUATE = "evaluate.json"
"""Settings of an evaluation; `CONFIG` marks the run of a training."""
EVALUATION = "evaluation.json"
"""What an evaluation measured: model, data, mapping of labels, texts left out, comparison."""
PROMOTION = "promotion.json"
"""In the run of a promotion or rollback."""
MODEL_CARD = "model_card.md"
MODEL_CARD_PAGE = "model_card.html"
UPLOADED = (
    CONFIG,
    FOLDS,
    EVALUATE,
    EVALUATION,
    ENVIRONMENT,
    DATASET,
    LABELS,
    THRESHOLDS,
    CALIBRATION,
    SCORES,
    PER_LABEL,
    ERRORS,
    MISSED_LABELS,
    SLICES,
    LABEL_ERRORS,
    LABEL_ERROR_COUNTS,
    THRESHOLD_SWEEP,
    SEEN_TEXTS,
    PREDICTIONS,
    FIGURES,
    REPORT,
    MODEL_CARD,
    MODEL_CARD_PAGE,
)
"""Files and folders of a run folder that belong to the run's artifacts. The model has its own place in MLflow."""

CHECKPOINTS = "checkpoints"
CLASSIFIER = "classifier"
DATA = "data.json"
"""Only in the run folder: the digests of the splits, which a resumed run compares."""
OUTCOME = "outcome.json"
"""Only in the run folder: the headline scores. They are written last, so a run with this file has its results."""
TRIAL_LOG = "trial.log"
"""Terminal output of a training that a search started."""

CHECK_RESULT, CHECK_SCORES = "check.json", "scores.parquet"
"""Files that the check of a saved model writes, in a folder of its caller."""

MODEL = "model"
EXAMPLE_TEXT = "thank you so much!"
"""In the examples of report, model card and saved model; the starter model labels it gratitude."""
REGISTERED_MODEL = "emotions"
DEFAULT_EXPERIMENT = "emotions"
# `mlflow run` logs the bare names itself, with quoted values, and MLflow lets nobody change a parameter.
PARAMETER_PREFIX = "cfg."

TRAIN_LOSS = "train/loss"
TRAIN_LEARNING_RATE = "train/learning_rate"
TRAIN_GRAD_NORM = "train/grad_norm"
TRAIN_SAMPLES_PER_SECOND = "train/samples_per_second"
TRAIN_EPOCH = "train/epoch"

TRAIN_STEPS = "train/steps"
TRAIN_SAMPLES = "train/samples"
"""Examples of all steps."""
TRAIN_SECONDS = "train/seconds"
"""Time of the training loop, evaluations on dev included."""
TRAIN_MEAN_GRAD_NORM = "train/mean_grad_norm"
TRAIN_MAX_GRAD_NORM = "train/max_grad_norm"
"""Mean and largest of the points of `train/grad_norm`."""

NESTED_MACRO_F1 = "dev/nested_macro_f1"
"""Macro F1 on dev as the choice of the policy estimates it: nested cross-fitting, mean over five seeds."""
BEST_STEP = "dev/best_step"
SCHEDULE_STEPS = "train/schedule_steps"
"""Steps of the whole schedule, also when training stopped early."""

MODEL_PARAMETERS = "model/parameters"
MODEL_SIZE_MB = "model/size_mb"
MODEL_LATENCY_MS = "model/latency_ms"

HEADLINES = (
    *(f"dev/final/{name}" for name in ("macro_f1", "micro_f1", "macro_ap")),
    *(f"test/{name}" for name in ("macro_f1", "macro_f1_low", "macro_f1_high", "macro_f1_supported", "micro_f1")),
    *(f"test/{name}" for name in ("macro_ap", "macro_roc_auc", "subset_accuracy", "ece", "ece_likely", "brier")),
    *(MODEL_PARAMETERS, MODEL_SIZE_MB, MODEL_LATENCY_MS),
)
"""Scores that are metrics of the run. MLflow draws a chart for every metric, so the others are in the tables only."""

TAG_GIT_COMMIT = "mlflow.source.git.commit"
TAG_GIT_DIRTY = "git.dirty"
TAG_ERROR = "error"
TAG_NOTE = "mlflow.note.content"
"""Description of a run, in Markdown."""
TAG_PRESET = "preset"
TAG_ATTENTION = "attention"
TAG_COMMAND = "command"
"""On runs that train nothing, such as promote, tune or compare."""
TAG_DATA_DIGEST = "data.digest"
SHORT_DIGEST = 16
"""Characters of a digest in a tag; older versions wrote all 64, and the files still do."""
TAG_DATA_OVERLAP = "data.overlap"
"""Followed by .dev_in_train, .test_in_train or .test_in_dev: examples whose text, normalised, is also there, if any."""
TAG_DATA_TRUNCATED = "data.truncated"
TAG_DATA_PADDING = "data.padding"
TAG_MODEL_COMMIT = "model.commit"
"""Commit of the encoder's hub repository."""
TAG_MODEL_DIGEST = "model.digest"
TAG_MODEL_SOURCE = "model.source"
"""On the run of an evaluation: the address of the model, with its version."""
TAG_RESUMES = "resumes"
"""On the run that `mlflow run -P resume=` made: the id of the run that was continued."""

TAG_STUDY = "tuning.study"
TAG_TRIAL = "tuning.trial"
TAG_TRIAL_STATE = "tuning.state"
"""On the run of a trial: complete, pruned, failed or interrupted."""
TAG_CONFIGURATION = "comparison.configuration"
"""On the run of a comparison's training: the name of its configuration."""
TAG_WINNER = "tuning.winner"
"""On the run of a study: the id of the run whose model won."""

_MAX_METRIC_CHARACTERS = 250  # MAX_ENTITY_KEY_LENGTH of MLflow 3.17
_METRIC_NAME = re.compile(rf"[/\w.\- :]{{1,{_MAX_METRIC_CHARACTERS}}}")


def predictions_file(role: str) -> str:
    """Return the path of the predictions of `role` ("dev", "test" or OUT_OF_FOLD), relative to the run folder."""
    return f"{PREDICTIONS}/{role}.parquet"


def train_joules(device: str) -> str:
    """Return the metric of the energy that a training took from a device, "gpu" or "processor"."""
    return f"train/{device}_joules"


def metric(role: str, name: str) -> str:
    """Return a metric name: `dev/macro_f1` for ("dev", "macro_f1")."""
    return f"{role}/{name}"


def final_metric(series: str) -> str:
    """Return the name of the score of the kept weights: `dev/final/macro_f1` for "dev/macro_f1"."""
    role, _, name = series.partition("/")
    return f"{role}/final/{name}"


def final_score(metrics: Mapping[str, float], series: str) -> float | None:
    """Return the final score that belongs to a series; older versions logged it as the last value of the series."""
    names = (final_metric(series), final_metric(series).replace("/final/", "/final_"), series)  # newest version first
    return next((metrics[name] for name in names if name in metrics), None)


def policy_metric(role: str, name: str, policy: str) -> str:
    """Return a metric name: `test/macro_f1/global` for ("test", "macro_f1", "global")."""
    return f"{role}/{name}/{policy}"


def check_metric_name(name: str) -> None:
    """Raise ValueError for a name that a tracking server would refuse together with its whole batch."""
    parts = name.split("/")
    if not _METRIC_NAME.fullmatch(name) or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(
            f"A metric name must be letters, digits, '_', '-', '.', ' ', ':' in parts joined by '/', got {name}."
        )
