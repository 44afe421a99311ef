"""What each metric, tag and file of a run means. The documentation prints it; a test compares it with a real run."""

from trainer.core import artifacts

__all__ = ["FILES", "METRICS", "TAGS"]

METRICS: dict[str, str] = {
    artifacts.TRAIN_LOSS: "Loss per example, mean since the point before.",
    artifacts.TRAIN_LEARNING_RATE: "Learning rate of the encoder's top layer.",
    artifacts.TRAIN_GRAD_NORM: "Norm of the gradients before clipping.",
    artifacts.TRAIN_SAMPLES_PER_SECOND: "Examples per second over all processes.",
    artifacts.TRAIN_EPOCH: "Passes over train so far.",
    "dev/loss": "Training loss on dev; comparable between runs with the same loss only.",
    "dev/nll": "Negative log-likelihood on dev, without calibration; comparable between runs with different losses.",
    "dev/macro_f1": "Macro F1 on dev during training: cross-fitted with a fixed policy, without calibration.",
    "dev/micro_f1": "Micro F1 on dev during training, estimated as `dev/macro_f1`.",
    "dev/macro_ap": "Macro average precision on dev during training.",
    "dev/final/macro_f1": "Macro F1 on dev of the kept weights: calibrated, cross-fitted, chosen policy. "
    "Searches and promotion rank by it.",
    "dev/final/micro_f1": "Micro F1 on dev of the kept weights, estimated as `dev/final/macro_f1`.",
    "dev/final/macro_ap": "Macro average precision on dev of the kept weights.",
    "test/macro_f1": "Mean of F1 over all labels on test, under the chosen threshold policy.",
    "test/macro_f1_low": "Lower end of the 95 % interval; `test/macro_f1_high` is the upper end.",
    "test/macro_f1_high": "Upper end of the 95 % interval.",
    "test/macro_f1_supported": "Mean of F1 over the labels with at least 40 positives on test.",
    "test/micro_f1": "F1 over all pairs of example and label of test.",
    "test/macro_ap": "Mean of average precision over the labels where it is defined.",
    "test/macro_roc_auc": "Mean of ROC AUC over the labels where it is defined.",
    "test/subset_accuracy": "Fraction of test examples whose labels are all right.",
    "test/ece": "Expected calibration error on test after calibration, 15 bins.",
    "test/ece_likely": "Expected calibration error on test over the probabilities above 0.1, after calibration.",
    "test/brier": "Brier score on test after calibration.",
    artifacts.MODEL_PARAMETERS: "Parameters of the model.",
    artifacts.MODEL_SIZE_MB: "Size of the weights in 10^6 bytes.",
    artifacts.MODEL_LATENCY_MS: "Milliseconds for one text of median length on the machine of the run.",
    "search/best": "Best dev objective so far, by trial number (run of a study).",
    "search/trials": "Trials of the study (run of a study).",
    "search/trainer_seconds": "Seconds spent in trainings (run of a study).",
    "search/winner": "Mean objective of the winning settings over new seeds (run of a study).",
    "promotion/SCORE": "What the gate compared: scores of candidate and champion (run of a promotion).",
    "system/NAME": "System metrics of MLflow: CPU, memory, GPU, network.",
}
"""Metric → meaning. Words in capitals stand for several metrics."""

TAGS: dict[str, str] = {
    artifacts.TAG_GIT_COMMIT: "Commit of this code.",
    artifacts.TAG_GIT_DIRTY: "`true` if the code had uncommitted changes.",
    artifacts.TAG_PRESET: "Preset of the run.",
    artifacts.TAG_ATTENTION: "Attention that was used: compact or stock.",
    artifacts.TAG_ERROR: "Why the run failed.",
    artifacts.TAG_COMMAND: "promote, rollback or tune, on runs that train nothing themselves.",
    f"{artifacts.TAG_DATA_DIGEST}.ROLE": "Start of the digest of train, dev and test; dataset.json has all of it.",
    artifacts.TAG_DATA_OVERLAP: "Texts shared by splits, if any; ends in dev_in_train, test_in_train, test_in_dev.",
    artifacts.TAG_DATA_TRUNCATED: "Texts truncated to max_length, in per cent of each split.",
    artifacts.TAG_DATA_PADDING: "Padding among the tokens of the first epoch, in per cent.",
    artifacts.TAG_MODEL_COMMIT: "Commit of the encoder's hub repository.",
    artifacts.TAG_MODEL_DIGEST: "Digest of the model files.",
    artifacts.TAG_RESUMES: "Run that was continued, on the run that `mlflow run -P resume=` created.",
    artifacts.TAG_STUDY: "Study of a trial.",
    artifacts.TAG_TRIAL: "Number of the trial.",
    artifacts.TAG_TRIAL_STATE: "complete, pruned, failed or interrupted.",
    artifacts.TAG_WINNER: "Run whose model won, on the run of a study.",
}
"""Tag → meaning."""

FILES: dict[str, str] = {
    artifacts.REPORT: "Scores with intervals, per-label table, figures, settings; one file without external links.",
    artifacts.SCORES: "Every score on dev and test, with 95 % intervals; also of each threshold policy.",
    artifacts.ERRORS: "The most confident mistakes on test and dev, with their texts.",
    artifacts.PER_LABEL: "Support, precision, recall, F1 with interval, threshold of each label.",
    artifacts.THRESHOLDS: "Thresholds of every policy, fitted on dev.",
    artifacts.CALIBRATION: "Method, temperature and bias of the calibration; its scores before and after.",
    artifacts.THRESHOLD_SWEEP: "F1 of each label on dev over a grid of thresholds.",
    artifacts.PREDICTIONS: "Texts, labels and logits of dev and test, as Parquet.",
    artifacts.SEEN_TEXTS: "Digests of the texts of train and dev, by which `evaluate` leaves them out of a test.",
    artifacts.FIGURES: "Figures of the report as PNG.",
    artifacts.CONFIG: "Every setting of the run, resolved.",
    artifacts.ENVIRONMENT: "Versions, machine, commit, command.",
    artifacts.DATASET: "Source, sizes, digests, overlap between splits, warnings.",
    artifacts.LABELS: "Label names in column order.",
    artifacts.MODEL_CARD: "Model card in Markdown; also the description of a registered version.",
    artifacts.MODEL_CARD_PAGE: "Model card as HTML.",
    artifacts.MODEL: "MLflow model: weights, tokenizer, labels, calibration, thresholds; no pickle.",
    artifacts.CLASSIFIER: "Encoder, head and tokenizer in safetensors, usable without MLflow.",
    artifacts.CHECKPOINTS: "Newest and best checkpoint while the run is unfinished.",
    artifacts.PROMOTION: "Decision of a promotion or rollback with its rules (run of that command).",
    artifacts.TRIAL_LOG: "Terminal output of a trial (run of a trial).",
    "events.jsonl": "Event log: every MLflow call of the run, written before it is delivered.",
    "events.offset": "How much of the event log is delivered.",
    "events.rejected.jsonl": "Calls that the tracking server refused, with the reason.",
    artifacts.DATA: "Digests of the splits, compared when the run is resumed.",
    artifacts.OUTCOME: "Headline scores, written last.",
}
"""File or folder of the run folder → content."""
