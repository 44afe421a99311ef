"""The finished run whose calibration and thresholds are reused where train and dev are trained on together.

That run did not train on dev, so its choices on dev are valid for new texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core import artifacts, run_folder
from trainer.core.errors import SettingsError, shorten
from trainer.core.input_files import show_path
from trainer.core.settings import quote
from trainer.evaluation.evaluation import Evaluation
from trainer.runs import results

__all__ = ["MAY_DIFFER", "SourceRun", "load_source_run"]

MAY_DIFFER = (
    *(*run_folder.RUNTIME_AND_DATASET, "retrain_from", "seed", "bootstrap_resamples", "checkpoint_steps"),
    *("folds", "fold", "group_column", "keep_columns"),  # digests compare the examples that these lead to
)
"""Settings in which two trainings of one configuration may differ."""


@dataclass(frozen=True)
class SourceRun:
    """What a retraining takes from a finished run."""

    run_id: str
    stop_fraction: float
    """Fraction of its schedule, in (0, 1], after which its weights were best on dev."""
    evaluation: Evaluation
    """Its calibration and thresholds, without scores."""
    digests: Mapping[str, str]
    """Role → digest of its split."""

    def check_data(self, label_names: Sequence[str], digests: Mapping[str, str]) -> None:
        """Raise SettingsError when the run was trained on a data set with other labels or digests."""
        changed = run_folder.changed_splits(self.digests, digests)
        if changed or tuple(label_names) != self.evaluation.label_names:
            difference = f"other examples in {', '.join(changed)}" if changed else "other labels"
            raise SettingsError(
                f"`retrain_from` must be a run on the same data, got {quote(self.run_id)}, which had {difference}. "
                "Restore its data, or name another run."
            )


def load_source_run(output: Path, run_id: str, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> SourceRun:
    """Return the run in the folder `output`/`run_id`.

    settings: those of the retraining. defaults: of every setting, for runs of earlier versions.
    Raises SettingsError when the run does not exist, has not finished, lacks a result, or had other settings; only the
    seed and settings that do not change the model may differ.
    """
    folder = output / run_id
    if not run_folder.has_results(folder, with_test=False):
        raise SettingsError(
            f"`retrain_from` must be a finished run with a folder in {show_path(output)}, got {quote(run_id)}. Finish "
            "it with `resume`, or name another run."
        )
    try:
        kept = run_folder.read_config(folder)
        differences = run_folder.diff_settings(kept, settings, defaults, ignore=MAY_DIFFER)
        source = _read(folder)
    except (SettingsError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"`retrain_from` must be a run that held dev out and kept its results, got {quote(run_id)} "
            f"({_reason(error)}). Name another run, or train it again with this version."
        ) from error
    if differences:
        raise SettingsError(
            f"Cannot retrain run {run_id} with other settings: {run_folder.format_diff(differences)}. Only `seed` and "
            "settings that do not change the model may differ."
        )
    return source


def _reason(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else shorten(error, 150)


def _read(folder: Path) -> SourceRun:
    scores, digests = (run_folder.read_object(folder / name) for name in (artifacts.OUTCOME, artifacts.DATA))
    # A run that trained on dev lacks these scores, so this KeyError refuses it as a source.
    stop_fraction = scores[artifacts.BEST_STEP] / scores[artifacts.SCHEDULE_STEPS]
    return SourceRun(folder.name, stop_fraction, results.load_choices(folder), digests)
