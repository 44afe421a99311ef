"""Run folders on local disk: the local files of a run, and the search for a stopped run to resume."""

import os
import shlex
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.core.environment import in_temporary_clone
from trainer.core.errors import SettingsError, shorten
from trainer.core.input_files import is_file, read_json, show_path
from trainer.core.presets import upgrade
from trainer.core.settings import quote, show
from trainer.core.text_files import write_json

__all__ = [
    "RUNTIME_AND_DATASET",
    "RUNTIME_SETTINGS",
    "changed_splits",
    "check_data",
    "check_disk",
    "check_output",
    "diff_settings",
    "find_resumable",
    "format_diff",
    "found_again",
    "has_results",
    "output_hint",
    "prune_cache",
    "prune_finished",
    "read_config",
    "read_fold_runs",
    "read_object",
    "resume_command",
    "retrain_command",
    "sync_command",
    "what_is_trained",
    "write_start",
]

RUNTIME_SETTINGS = (
    *("preset", "resume", "output", "processes", "micro_batch_size", "eval_batch_tokens"),
    *("register", "registered_model", "log_steps", "read_test"),
)
"""Settings that do not change what is trained: a resumed run may have other values."""
RUNTIME_AND_DATASET = (*RUNTIME_SETTINGS, "dataset")
"""The same where digests compare the examples themselves: the path of the data may have changed."""

_CACHE_SECONDS = 30 * 24 * 3600


def find_resumable(output: Path, resume: str, wanted: Mapping[str, Any], defaults: Mapping[str, Any]) -> Path:
    """Return the folder of the run to resume: a run id, or `latest` for the newest unfinished run that fits `wanted`.

    wanted: all settings of the resumed run, or some of them. defaults: of every setting, for runs of earlier versions.
    A run that has scores on dev alone is unfinished when test is to be read and its id is given.
    Raises SettingsError when there is no such run, when it has its results, or when its settings differ.
    """
    folder = _newest_unfinished(output, wanted, defaults) if resume == "latest" else output / resume
    if folder.is_dir() and not is_file(folder / artifacts.CONFIG):
        raise SettingsError(
            f"Cannot resume run {quote(resume)}: it was stopped before it had saved its settings. Start a new run. "
            f"This one gets its final status by: {sync_command(folder)}"
        )
    if not is_file(folder / artifacts.CONFIG):
        names = sorted(path.name for path in output.glob("[!.]*/"))
        raise SettingsError(
            f"`resume` must be the id of a run with a folder in {show_path(output)}, got {quote(resume)}. "
            f"Folders there: {shorten(', '.join(names)) or 'none'}.{output_hint(output)}"
        )
    if has_results(folder, with_test=bool(wanted.get("read_test", True))):
        prune_finished(output)
        raise SettingsError(
            f"`resume` must be the id of an unfinished run, got {quote(resume)}, which has its results. If the server "
            f"lacks some of them: {sync_command(folder)}"
        )
    if differences := diff_settings(read_config(folder), wanted, defaults, ignore=RUNTIME_SETTINGS):
        raise SettingsError(
            f"Cannot resume run {folder.name} with other settings: {format_diff(differences)}. "
            "Leave these settings out: a resumed run keeps its own."
        )
    return folder


def check_output(output: Path) -> None:
    """Raise SettingsError when the folder of run folders cannot be made or written to."""
    path = output.absolute()
    existing = next(one for one in (path, *path.parents) if one.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise SettingsError(f"`output` must be a folder that can be written to, got {show_path(output)}.")


def what_is_trained(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that help to compare runs: what is trained, on how many processes; none that is empty."""
    left_out = set(RUNTIME_SETTINGS) - {"processes"}
    return {name: value for name, value in settings.items() if name not in left_out and value != ""}


def read_config(folder: Path) -> dict[str, Any]:
    """Return the settings of the run in `folder`, by the names and values of this version.

    Raises SettingsError for a damaged file.
    """
    return upgrade(read_object(folder / artifacts.CONFIG))


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of a run folder. Raises SettingsError for a damaged file."""
    try:
        content = read_json(path)
    except ValueError as error:
        raise SettingsError(f"Cannot read {show_path(path)} of the run: {error}. Name another run.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{show_path(path)} of the run must contain a JSON object. Name another run.")
    return content


def diff_settings(
    kept: Mapping[str, Any], wanted: Mapping[str, Any], defaults: Mapping[str, Any], *, ignore: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Return name → (kept value, wanted value) for each wanted setting, but the ignored ones, whose values differ.

    A setting that `kept` lacks, because an earlier version wrote it, has its default.
    """
    kept, wanted = {**defaults, **upgrade(kept)}, upgrade(wanted)
    return {
        name: (kept.get(name), value)
        for name, value in wanted.items()
        if name not in ignore and kept.get(name) != value
    }


def format_diff(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """Return a phrase such as `epochs: 4 then, 8 now; loss: bce then, asl now`."""
    return "; ".join(f"{name}: {quote(kept)} then, {quote(now)} now" for name, (kept, now) in differences.items())


def check_disk(folder: Path, needed: int) -> None:
    """Raise SettingsError when the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SettingsError(
            f"Checkpoints need {needed / 2**20:,.0f} MiB, but the disk of {folder} has {free / 2**20:,.0f} MiB free. "
            "Free some space, or set `output` to a folder on another disk."
        )


def write_start(folder: Path, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write what a run has from its start. facts: of the environment; a resumed run keeps those of its start."""
    if not (folder / artifacts.ENVIRONMENT).is_file():
        write_json(folder / artifacts.ENVIRONMENT, facts)
    write_json(folder / artifacts.CONFIG, settings)  # last: with it, the run can be resumed


def check_data(folder: Path, digests: Mapping[str, str]) -> None:
    """Write the digests of the splits into the folder of a run; raise SettingsError when the run began with others."""
    path = folder / artifacts.DATA
    kept = read_object(path) if path.is_file() else dict(digests)
    if changed := changed_splits(kept, digests):
        raise SettingsError(
            f"Cannot resume: the examples of {', '.join(changed)} have changed since the run began. "
            "Restore the data, or start a new run."
        )
    write_json(path, kept)


def changed_splits(kept: Mapping[str, str], digests: Mapping[str, str]) -> list[str]:
    """Return the roles of the splits whose digest is not the one kept."""
    return sorted(role for role in kept.keys() | digests.keys() if kept.get(role) != digests.get(role))


def has_results(folder: Path, *, with_test: bool) -> bool:
    """Return whether the run in `folder` has ended with its scores. with_test: with scores on test among them."""
    path = folder / artifacts.OUTCOME
    if not (path.is_file() and with_test):
        return path.is_file()
    return any(name.startswith(artifacts.metric("test", "")) for name in read_object(path))


def read_fold_runs(folder: Path) -> dict[int, str]:
    """Return the runs of the folds of a cross-validation, by fold; none before the first began.

    Raises SettingsError for a damaged file.
    """
    path = folder / artifacts.FOLD_RUNS
    return {int(fold): str(run) for fold, run in read_object(path).items()} if path.is_file() else {}


def prune_cache(folder: Path) -> None:
    """Delete cached files that are older than 30 days; a run that needs one again makes it again."""
    oldest = time.time() - _CACHE_SECONDS
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # runs share the cache: another may have deleted it
            if path.stat().st_mtime < oldest:
                path.unlink()


def prune_finished(output: Path) -> None:
    """Delete the checkpoints of runs with all their results: the process was killed before it did so itself."""
    for folder in output.glob(f"*/{artifacts.CHECKPOINTS}"):
        with suppress(SettingsError):  # a damaged file of another run: who resumes it is told
            if has_results(folder.parent, with_test=True):
                shutil.rmtree(folder, ignore_errors=True)  # its process may be deleting it at this moment


def resume_command(folder: Path) -> str:
    """Return the command that continues the run of a run folder."""
    output = found_again(folder.parent)
    elsewhere = ["-P", f"output={output}"] if output != Path("runs") else []
    return shlex.join(["mlflow", "run", ".", "-e", "train", "-P", f"resume={folder.name}", *elsewhere])


def retrain_command(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return the command that trains again with these settings, on train and dev, what a run folder describes."""
    output = found_again(folder.parent)
    values = {"retrain_from": folder.name, **settings, **({} if output == Path("runs") else {"output": output})}
    words = [word for name, value in values.items() for word in ("-P", f"{name}={show(value)}")]
    return shlex.join(["mlflow", "run", ".", "-e", "train", *words])


def sync_command(folder: Path) -> str:
    """Return the command that delivers to the tracking server what is left in a run folder."""
    return shlex.join(["mlflow", "run", ".", "-e", "sync", "-P", f"output={found_again(folder)}"])


def found_again(folder: Path) -> Path:
    """Return a folder as later commands find it: absolute in a temporary clone, where they do not run."""
    return folder.absolute() if in_temporary_clone() else folder


def output_hint(output: Path) -> str:
    """Return advice, after a space, when runs are left in a temporary clone; empty elsewhere."""
    if output.is_absolute() or not in_temporary_clone():
        return ""
    return " This is a temporary clone of the project: give output=/absolute/folder to find runs again."


def _newest_unfinished(output: Path, wanted: Mapping[str, Any], defaults: Mapping[str, Any]) -> Path:
    # with_test=False: trials of a search end without test, and `latest` must not continue one.
    of_folds = _runs_of_folds(output)  # a cross-validation continues them itself
    candidates = [
        path.parent
        for path in output.glob(f"*/{artifacts.CONFIG}")
        if not has_results(path.parent, with_test=False) and path.parent.name not in of_folds
    ]
    if not candidates:
        raise SettingsError(
            f"resume=latest needs an unfinished run, but there is none in {show_path(output)}. Leave `resume` out to "
            f"start a run.{output_hint(output)}"
        )
    fitting = [folder for folder in candidates if _fits(folder, wanted, defaults)]
    # A run that ended before its data were read, as with a wrong path, has nothing to continue.
    begun = [folder for folder in fitting if is_file(folder / artifacts.DATASET)]
    # When none fits, the error names the differences from the newest.
    # Each start and each resume of a run writes the file again, so its time is that of the last start.
    return max(begun or fitting or candidates, key=lambda folder: (folder / artifacts.CONFIG).stat().st_mtime)


def _runs_of_folds(output: Path) -> set[str]:
    found: set[str] = set()
    for path in output.glob(f"*/{artifacts.FOLD_RUNS}"):
        with suppress(SettingsError):  # a damaged folder is no reason to stop while there are others
            found.update(read_fold_runs(path.parent).values())
    return found


def _fits(folder: Path, wanted: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    try:
        return not diff_settings(read_config(folder), wanted, defaults, ignore=RUNTIME_SETTINGS)
    except SettingsError:  # a damaged folder is no reason to stop while there are others
        return False
