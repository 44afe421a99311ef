"""The run that a training on train and dev together goes by: it held dev out, so what it chose there is honest."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core import artifacts, run_folder
from trainer.core.errors import SettingsError
from trainer.evaluation.evaluation import Evaluation
from trainer.runs import results

__all__ = ["SourceRun", "load_source_run"]

_MAY_DIFFER = (
    *run_folder.RUNTIME_AND_DATASET,
    "retrain_from",
    "seed",
    "bootstrap_resamples",
    "checkpoint_steps",
)


@dataclass(frozen=True)
class SourceRun:
    """What is taken over from a finished run."""

    run_id: str
    share: float
    """Share of its schedule, in (0, 1], that its best weights had taken."""
    choices: Evaluation
    """Its temperature and thresholds, without scores."""
    digests: Mapping[str, str]
    """Of its splits, by role."""

    def check_data(self, label_names: Sequence[str], digests: Mapping[str, str]) -> None:
        """Raise SettingsError when a data set of these labels and digests is not the one that it was trained on."""
        changed = run_folder.changed_splits(self.digests, digests)
        if changed or tuple(label_names) != self.choices.label_names:
            raise SettingsError(
                f"retrain_from must name a run of the same data, but got retrain_from={self.run_id!r} with "
                f"{f'other rows in {changed=}' if changed else 'other labels'}. Bring its data back, or name another."
            )


def load_source_run(output: Path, run_id: str, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> SourceRun:
    """The run in the folder `output`/`run_id`. settings: those of the training that goes by it; defaults: of all.

    Raises SettingsError when there is none, when it has not ended well, when it had other settings than these, but
    for the seed and what does not change the model, or when it lacks a result.
    """
    folder = output / run_id
    if not run_folder.has_results(folder, with_test=False):
        raise SettingsError(
            f"retrain_from must name a finished run with a folder in output, but got retrain_from={run_id!r}, "
            f"output={str(output)!r}. Finish it with resume, or name another."
        )
    try:
        kept = run_folder.read_config(folder)
        differences = run_folder.diff_settings(kept, settings, defaults, ignore=_MAY_DIFFER)
        found = _read(folder)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"retrain_from must name a run that held dev out and left its results, but got retrain_from={run_id!r} "
            f"({type(error).__name__}: {error}). Name another, or train it again with this version."
        ) from error
    if differences:
        raise SettingsError(
            f"Cannot retrain run {run_id} with other settings: {run_folder.format_diff(differences)}. Only `seed` and "
            "settings that do not change the model may differ."
        )
    return found


def _read(folder: Path) -> SourceRun:
    scores, digests = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in (artifacts.OUTCOME, artifacts.DATA)
    )
    share = scores[artifacts.BEST_STEP] / scores[artifacts.SCHEDULE_STEPS]
    return SourceRun(folder.name, share, results.load_thresholds_and_temperature(folder), digests)
