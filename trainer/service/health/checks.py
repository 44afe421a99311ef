"""What is checked: database, object store, tracking server, disk, backups, served champion.

A text stands on a page that asks for no login, so it names no address and no path of this machine.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from trainer.core.errors import shorten
from trainer.service.backups.backup import LAST
from trainer.service.backups.files import newest_backup
from trainer.service.stores import Stores

__all__ = ["Check", "Result", "State", "backups", "database", "disk", "object_store", "served_champion", "tracking"]

State = Literal["ok", "warning", "dead"]
_SECONDS = 5
_GB = 10**9
_HOUR = 3600


@dataclass(frozen=True)
class Result:
    """What a check has found."""

    state: State
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Name of a metric → value."""


Check = Callable[[], Result]


def database(stores: Stores) -> Result:
    """Return whether PostgreSQL answers a query. Raises TrackingError when it does not."""
    with stores.connect() as connection:
        row = connection.execute("select pg_database_size(current_database())").fetchone()
    size = float(row[0]) if row else 0.0
    return Result("ok", f"answers; {size / _GB:.2f} GB", {"service_database_bytes": size})


def object_store(stores: Stores) -> Result:
    """Return whether the bucket of the artifacts can be read. Raises the client's error when it cannot."""
    stores.s3().head_bucket(Bucket=stores.bucket)
    return Result("ok", "answers")


def tracking(url: str) -> Result:
    """Return whether MLflow answers. Raises OSError when it does not."""
    _get(f"{url}/health")
    return Result("ok", "answers")


def disk(folders: Sequence[Path], least_percent: int) -> Result:
    """Return whether the fullest of the folders' disks has enough room."""
    free = min(_free_share(folder) for folder in folders)
    state: State = "ok" if 100 * free >= least_percent else "warning"
    numbers = {"service_disk_free_ratio": free}
    return Result(state, f"{100 * free:.0f} % free; the limit is {least_percent} %", numbers)


def backups(folder: Path, most_hours: int, since: float) -> Result:
    """Return whether the last backup succeeded and is not too old. since: when the service began, as seconds."""
    if not most_hours:
        return Result("ok", "made elsewhere")
    done, last = newest_backup(folder) if folder.is_dir() else None, _read_last(folder)
    age = (time.time() - (done.stat().st_mtime if done else since)) / _HOUR
    numbers = {"service_backup_age_seconds": age * _HOUR} if done else {}
    text = f"the last one succeeded {age:.1f} hours ago" if done else "none yet"
    if last.get("ok") is False:
        return Result("warning", f"the last one failed ({shorten(last.get('what', ''), 200)}); {text}", numbers)
    state: State = "ok" if age <= most_hours else "warning"
    return Result(state, f"{text}; the limit is {most_hours} hours", numbers)


def served_champion(url: str) -> Result:
    """Return which version is served. Raises OSError when nothing answers."""
    content = json.loads(_get(f"{url}/health", accepted=(503,)))
    version = content["version"]
    text = f"version {version} of {content['model']}" if version else "nothing is served"
    numbers = {"service_served_version": float(version or 0)}
    if content["status"] == "ok":
        return Result("ok", text, numbers)
    return Result("warning", f"{text}: {shorten(content['problem'], 200)}", numbers)


def _free_share(folder: Path) -> float:
    found = os.statvfs(folder)
    return found.f_bavail / found.f_blocks if found.f_blocks else 1.0


def _read_last(folder: Path) -> dict[str, Any]:
    path = folder / LAST
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    datetime.fromisoformat(content["time"])  # damaged content is an error of this check
    return dict(content)


def _get(url: str, accepted: Sequence[int] = ()) -> bytes:
    """Return the body of an answer with status 200 or one of `accepted`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_SECONDS) as answer:
            body: bytes = answer.read(10**6)
    except urllib.error.HTTPError as error:
        with error:
            if error.code not in accepted:
                raise
            body = error.read(10**6)
    return body
