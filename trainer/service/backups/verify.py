"""Verification: restore a backup beside the service, start an MLflow server on it, and let its champions answer.

`docker/verify.sh [BACKUP]`, or `docker/backup.sh --verify` for a new one. The service stays as it is.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.core.child_process import child_command, kill_tree, parent_pipe
from trainer.core.environment import child_environment
from trainer.core.errors import TrackingError, shorten
from trainer.service.backups import files as backup_files
from trainer.service.backups.command import run_command
from trainer.service.backups.files import Artifact, Backup
from trainer.service.backups.restore import check_usable, find, restored_databases
from trainer.service.stores import Stores, object_errors

__all__ = ["main", "print_verification", "verify"]

_BESIDE = "_verifying"
_START_SECONDS = 120
_INPUT = "serving_input_example.json"
_CHAMPIONS = """
select name, version, coalesce(substring(source from 'm-[0-9a-f]{32}'), '') from model_versions
natural join registered_model_aliases where alias = 'champion' order by name
"""


@dataclass(frozen=True)
class _Champion:
    name: str
    version: int
    model_id: str

    @property
    def place(self) -> str:
        """What stands in the keys of its artifacts before their names."""
        return f"{self.model_id}/artifacts/"

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}, its champion,"


def main(argv: list[str] | None = None) -> int:
    """Return 0 when everything is as it was, 1 when something is not, which goes to standard error."""
    parser = argparse.ArgumentParser(prog="docker/verify.sh", description="Verify a backup of the tracking server.")
    parser.add_argument("backup", nargs="?", type=Path, help="name or folder of a backup; by default the newest")
    return run_command(
        parser, lambda given, service: print_verification(service.stores, find(service.backups, given.backup)), argv
    )


def print_verification(stores: Stores, backup: Backup) -> None:
    """Verify a backup and print what is as it was. Raises as `verify`."""
    print(f"Verifying {backup.folder}", flush=True)
    for sentence in verify(stores, backup):
        print(f"  {sentence}", flush=True)


def verify(stores: Stores, backup: Backup) -> Iterator[str]:
    """Yield a sentence for each thing that is as it was: files, rows, and the answers of each champion.

    Raises SettingsError or TrackingError for the first one that is not.
    """
    check_usable(backup)
    yield f"{backup.manifest.artifacts} artifacts and {len(backup.manifest.databases)} databases have their digests"
    names = {name: f"{name}{_BESIDE}" for name in backup.manifest.databases}
    database = names[backup.manifest.database]
    with stores.lock("verification"), restored_databases(stores, backup, names):
        yield f"restored with the same number of rows in every table: {backup_files.summarize(backup.manifest)}"
        # Beside the backup, because a hard link is possible within one disk only.
        with tempfile.TemporaryDirectory(dir=backup.folder.parent, prefix=".partial-verify-") as scratch:
            folder = Path(scratch)
            artifacts = backup.artifacts()
            with stores.connect(database) as connection:
                champions = [_Champion(*row) for row in connection.execute(_CHAMPIONS)]
            _check_present(champions, artifacts)
            _lay_out(backup, artifacts, folder / "artifacts")
            with _server(stores, database, folder) as uri:
                for champion in champions:
                    yield _ask(champion, stores, artifacts, uri, folder)


def _check_present(champions: Sequence[_Champion], artifacts: Sequence[Artifact]) -> None:
    for champion in champions:
        if not any(one.key.endswith(f"{champion.place}MLmodel") for one in artifacts):
            raise TrackingError(f"The model of {champion} is not in the backup: the bucket did not have it.")


def _lay_out(backup: Backup, artifacts: Sequence[Artifact], folder: Path) -> None:
    """Give the contents their keys as names, as a server with local artifacts expects."""
    for artifact in artifacts:
        target = folder / artifact.key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(backup.folder / artifact.file, target)
        except OSError:  # a disk without hard links
            shutil.copy2(backup.folder / artifact.file, target)


@contextmanager
def _server(stores: Stores, database: str, folder: Path) -> Iterator[str]:
    """Run an MLflow server without accounts on the restored database; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri, log = f"http://127.0.0.1:{port}", folder / "server.log"
    words = ["--backend-store-uri", stores.url(database), "--artifacts-destination", str(folder / "artifacts")]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {
        **_environment(),
        "PGPASSFILE": str(stores.password_file),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with parent_pipe() as pipe, log.open("wb") as output:
        command = child_command("mlflow", ["server", *words])
        process = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
        try:
            _wait(f"{uri}/health", process, log)
            yield uri
        finally:
            kill_tree(process.pid)
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - an address of ours
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"])[-1]
    raise TrackingError(f"An MLflow server does not start on the restored database ({shorten(last, 200)}).")


def _ask(champion: _Champion, stores: Stores, artifacts: Sequence[Artifact], uri: str, folder: Path) -> str:
    """Compare the answers of a restored champion with those of the same model in the service."""
    keys = [one.key for one in artifacts if one.key.endswith(champion.place + _INPUT)]
    if not keys:
        return f"{champion} has no input example: it is there, and was not asked"
    question = folder / "artifacts" / keys[0]
    answer = _predict(f"models:/{champion.name}@champion", question, uri, folder)
    current = _download(champion, stores, folder / champion.model_id)
    if current is None:
        return f"{champion} answers {shorten(answer)}; the service does not have its model any more"
    if _predict(str(current), question, uri, folder) != answer:
        raise TrackingError(f"The restored {champion} does not answer as the model in the service does.")
    return f"{champion} answers as the model in the service does: {shorten(answer)}"


def _predict(model: str, question: Path, uri: str, folder: Path) -> str:
    """Return the answer of a model to its input example. A model is code, so it runs without secrets."""
    output = folder / "answer.json"
    words = ["models", "predict", "--model-uri", model, "--env-manager", "local", "--content-type", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *words, "--input-path", str(question), "--output-path", str(output)],
        env={**_environment(), "MLFLOW_TRACKING_URI": uri},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrackingError(f"{shorten(model)} of the backup cannot be loaded ({shorten(last, 160)}).")
    return json.dumps(json.loads(output.read_text(encoding="utf-8"))["predictions"])


def _download(champion: _Champion, stores: Stores, folder: Path) -> Path | None:
    client = stores.s3()
    found = [one.key for one in stores.objects(client) if champion.place in one.key]
    for key in found:
        target = folder / key.partition(champion.place)[2]
        target.parent.mkdir(parents=True, exist_ok=True)
        with object_errors("read the champion"):
            client.download_file(stores.bucket, key, str(target))
    return folder if found else None


def _environment() -> dict[str, Any]:
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "OMP_NUM_THREADS")
    inherited = child_environment()
    return {
        **{name: inherited[name] for name in kept if name in inherited},
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_PROXY": "127.0.0.1",
    }


if __name__ == "__main__":
    sys.exit(main())
