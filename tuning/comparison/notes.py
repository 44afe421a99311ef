"""What a reader of a comparison must know of its runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.core import artifacts
from trainer.core.run_folder import read_object
from trainer.reporting import console
from tuning.comparison.results import ComparedRun

__all__ = ["find_notes"]


def find_notes(runs: Sequence[ComparedRun]) -> list[str]:
    """Return what makes finished runs less comparable: other code, examples of train or planned steps, and early stops.

    Examples of train are compared within a seed and fold, which may draw others.
    """
    finished = [run for run in runs if run.state == "finished" and run.folder is not None]
    notes = _of_code({run.run_id: _read(run, artifacts.ENVIRONMENT).get("code_digest") for run in finished})
    for drawn in sorted({_drawn(run) for run in finished}):
        alike = [run for run in finished if _drawn(run) == drawn]
        steps = {run.run_id: run.scores.get(artifacts.SCHEDULE_STEPS) for run in alike}
        train = {run.run_id: _read(run, artifacts.DATASET).get("digests", {}).get("train") for run in alike}
        where = f"for seed {drawn[0]}" + (f" and fold {drawn[1]}" if drawn[1] else "")
        notes += [_others(f"number of planned steps {where}", steps), _others(f"train split {where}", train)]
    early = [f"{run.configuration} seed {run.seed}" for run in finished if _stopped_early(run)]
    notes.append(f"Early stopping ended {console.abbreviate(early)}." if early else "")
    return [note for note in notes if note]


def _drawn(run: ComparedRun) -> tuple[int, int]:
    return run.seed, int(run.settings.get("fold", 0))


def _read(run: ComparedRun, name: str) -> dict[str, Any]:
    return read_object(run.folder / name) if run.folder else {}


def _of_code(digests: Mapping[str, object]) -> list[str]:
    known = {run_id: digest for run_id, digest in digests.items() if digest}
    unknown = [run_id for run_id in digests if run_id not in known]
    silent = f"{len(unknown)} of {len(digests)} runs do not say with which code they were trained: "
    return [_others("code", known), f"{silent}{console.abbreviate(unknown)}." if unknown else ""]


def _others(what: str, facts: Mapping[str, object]) -> str:
    """Return a note on the runs without the most frequent value; empty where all have the same."""
    common = Counter(facts.values()).most_common(1)
    others = [run_id for run_id, fact in facts.items() if fact != common[0][0]]
    return f"{len(others)} of {len(facts)} runs have another {what}: {console.abbreviate(others)}." if others else ""


def _stopped_early(run: ComparedRun) -> bool:
    planned, steps = (run.scores.get(name) for name in (artifacts.SCHEDULE_STEPS, artifacts.TRAIN_STEPS))
    return planned is not None and steps is not None and steps < planned
