"""Run folders on local disk: what a run keeps beside the tracking server, and how a killed run is found again."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.core import artifacts
from trainer.core.errors import SettingsError

__all__ = [
    "MAY_DIFFER",
    "MAY_DIFFER_WITH_ROWS",
    "changed_roles",
    "check_data",
    "check_disk",
    "differences",
    "differing",
    "find_resumable",
    "has_results",
    "write_json",
]

MAY_DIFFER = (
    *("preset", "resume", "output", "processes", "micro_batch_size", "eval_batch_tokens"),
    *("register", "log_steps", "read_test"),
)
"""Settings that do not change what is trained, so a resumed run may have others."""
MAY_DIFFER_WITH_ROWS = (*MAY_DIFFER, "dataset")
"""The same where the rows themselves are compared: the data may lie elsewhere by now."""


def find_resumable(output: Path, resume: str, settings: Mapping[str, Any]) -> Path:
    """Folder of the run that `resume` names: a run id, or `latest` for the newest unfinished one of these settings.

    A run that has scored dev alone is unfinished for settings that read test, when its id is given.
    Raises SettingsError when there is no such run, when it has its results, or when `settings` differ from its own.
    """
    folder = _newest_unfinished(output, settings) if resume == "latest" else output / resume
    if not (folder / artifacts.CONFIG).is_file():
        raise SettingsError(
            f"resume must name a run with a folder in output, but got {resume=}, output={str(output)!r}. "
            f"Folders there: {', '.join(sorted(path.name for path in output.glob('*/'))) or 'none'}."
        )
    if has_results(folder, with_test=bool(settings.get("read_test", True))):
        raise SettingsError(
            f"resume must name an unfinished run, but got {resume=}, which has its results. Should the tracking server "
            f"lack some of them: python -m trainer.tracking.run sync {folder}"
        )
    if different := differences(folder, settings):
        raise SettingsError(
            f"a resumed run must keep its settings, but got {resume=} with other ones: {'; '.join(different)}."
        )
    return folder


def check_disk(folder: Path, needed: int) -> None:
    """Raise SettingsError when the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SettingsError(
            f"disk of output must have {needed / 2**20:,.0f} MiB free for checkpoints, but got {free / 2**20:,.0f} MiB "
            f"at {str(folder)!r}. Free some, or set output to a folder on another disk."
        )


def check_data(folder: Path, digests: Mapping[str, str]) -> None:
    """Keep the digests of the splits in the folder of a run; raise SettingsError when it has been begun with others."""
    path = folder / artifacts.DATA
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else dict(digests)
    if changed := changed_roles(kept, digests):
        raise SettingsError(
            f"a resumed run must have the data it began with, but got other rows in {changed=}. "
            "Bring them back, or start a new run."
        )
    write_json(path, kept)


def changed_roles(kept: Mapping[str, str], digests: Mapping[str, str]) -> list[str]:
    """Roles of the splits with another digest than the one kept."""
    return sorted(role for role in kept.keys() | digests.keys() if kept.get(role) != digests.get(role))


def differences(folder: Path, settings: Mapping[str, Any], may_differ: Sequence[str] = MAY_DIFFER) -> list[str]:
    """In words, where `settings` are not those of the run in `folder`, but for those that may differ."""
    others = {name: value for name, value in settings.items() if name not in may_differ}
    return [f"{name}: {kept!r} then, {value!r} now" for name, (kept, value) in differing(folder, others).items()]


def differing(folder: Path, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Name to the value in the run of `folder` and the one given, where the two are not the same."""
    kept = json.loads((folder / artifacts.CONFIG).read_text(encoding="utf-8"))
    return {name: (kept.get(name), value) for name, value in settings.items() if kept.get(name) != value}


def has_results(folder: Path, *, with_test: bool) -> bool:
    """Whether the run in `folder` has ended with its scores; with_test: those on test among them."""
    path = folder / artifacts.OUTCOME
    if not (path.is_file() and with_test):
        return path.is_file()
    return any(name.startswith(artifacts.metric("test", "")) for name in json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, content: Any) -> Path:
    """Write JSON under another name and rename it into place; missing numbers are refused, not written as NaN."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _newest_unfinished(output: Path, settings: Mapping[str, Any]) -> Path:
    candidates = [
        path.parent for path in output.glob(f"*/{artifacts.CONFIG}") if not has_results(path.parent, with_test=False)
    ]
    if not candidates:
        raise SettingsError(f"resume=latest must find an unfinished run, but got none in output={str(output)!r}.")
    fitting = [folder for folder in candidates if not differences(folder, settings)]
    # When none fits, the error about the newest says what is different.
    return max(fitting or candidates, key=lambda folder: (folder / artifacts.CONFIG).stat().st_mtime)
