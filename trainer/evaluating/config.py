"""Settings of an evaluation: what is evaluated, on which data, and with what it is compared."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.core.data_files import SUFFIXES
from trainer.core.errors import SettingsError
from trainer.core.settings import quote, require
from trainer.data.config import AUTO, DataConfig

__all__ = ["MAPPINGS", "EvaluateConfig", "is_predictions"]

MAPPINGS = Path(__file__).parents[1] / "mappings"
"""Folder of the mappings that ship with the project."""
_CHAMPION = "models:/emotions@champion"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a model, or a file of predictions, on a split of any data set, and track the result in MLflow.

    Nothing is fitted: calibration and thresholds are those of the model. No code of the model runs.
    """

    model: str = _CHAMPION
    """Model that this project saved: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/RUN_ID/model`, a run id, a
    run folder, or a folder with a saved model."""

    dataset: str = ""
    """Data set, as for train, or one labelled file. May be empty with `predictions` from a file that has labels."""

    split: Literal["test", "dev", "train"] = "test"
    """Split to score. A data set that lacks the other splits will do."""

    dataset_revision: str = ""
    """Branch, tag or commit of a hub data set; empty is its main branch."""

    text_column: str = "text"
    """Name of the column of texts, in files that name their columns."""

    label_column: str = "labels"
    """Name of the column of labels (default: `labels`, or else `label`); without it one column per label, as in
    train."""

    label_separator: str = AUTO
    """Text between the labels of a cell, as for train."""

    group_column: str = ""
    """Name of a column whose equal cells group examples, such as a dialogue: intervals draw groups whole."""

    keep_columns: str = ""
    """Names of further columns, separated by commas, to score the slices of."""

    label_mapping: str = ""
    """Groups of labels in which model and data agree: goemotions-ekman, goemotions-sentiment, goemotions-semeval2018,
    goemotions-isear, goemotions-meld, or a YAML or JSON file of `label: [members]`. Empty: labels of the same name."""

    policy: str = ""
    """Threshold policy of the headline scores; empty: the default policy of the model."""

    threshold: float = -1.0
    """One threshold in [0, 1] for all labels, instead of the policy's; -1: none, and 0.5 for predictions from a file
    without a column `predicted_labels`."""

    seen_texts: Literal["drop", "refuse", "keep"] = "drop"
    """Examples whose text the model was trained on: `drop` and count them, `refuse` to evaluate, or `keep` them."""

    predictions: str = ""
    """File of predictions to evaluate instead of a model: CSV, TSV, JSON Lines or Parquet with ids or texts, and
    probabilities."""

    compare_to: str = ""
    """Model, version of the same registered model, or file of predictions to compare with on the same examples."""

    min_effect: float = 0.01
    """Difference in macro F1 below which two models count as equivalent, when the whole interval is below it."""

    bootstrap_resamples: int = 1000
    """Bootstrap resamples of the examples for each 95 % interval; the comparison takes ten times as many."""

    seed: int = 42
    """Seed of the bootstrap resamples."""

    output: str = "runs"
    """Folder for run folders, relative to the current folder."""

    def __post_init__(self) -> None:
        require("model", self.model, bool(self.model.strip()), "not be empty")
        if self.predictions and self.model != _CHAMPION:
            raise SettingsError(
                f"`model` must be left out with `predictions`, got {quote(self.model)}. Compare both with compare_to."
            )
        is_threshold = self.threshold == -1 or 0 <= self.threshold <= 1
        require("threshold", self.threshold, is_threshold, "be in [0, 1], or -1 for none")
        without_policy = not (self.policy and self.threshold != -1)
        require("policy", self.policy, without_policy, "be empty with threshold, which replaces it")
        require("min_effect", self.min_effect, 0 <= self.min_effect < 1, "be at least 0 and below 1")
        resamples = self.bootstrap_resamples
        require("bootstrap_resamples", resamples, 100 <= resamples <= 100_000, "be in [100, 100000]")
        require("seed", self.seed, 0 <= self.seed < 2**32, "be in [0, 2^32)")
        require("output", self.output, bool(self.output.strip()), "not be empty")
        if self.dataset or self.predictions:
            self.data  # noqa: B018  # checks the names of columns

    @property
    def data(self) -> DataConfig:
        """Return the settings of the data; those of a file of predictions with labels where no data set is named."""
        return DataConfig(
            dataset=self.dataset or self.predictions,
            dataset_revision=self.dataset_revision,
            text_column=self.text_column,
            label_column=self.label_column,
            label_separator=self.label_separator,
            group_column=self.group_column,
            keep_columns=self.keep_columns,
        )

    @property
    def compared(self) -> str:
        """Return the address of the other model; a version number is one of the registered model of `model`."""
        name = re.match(r"models:/+([^/@]+)[/@]", self.model)
        if self.compare_to.isdecimal() and name and not self.predictions:
            return f"models:/{name[1]}/{self.compare_to}"
        return self.compare_to


def is_predictions(address: str) -> bool:
    """Return whether an address is a file of predictions rather than a model."""
    return "://" not in address and ":/" not in address and Path(address).suffix.lower() in SUFFIXES
