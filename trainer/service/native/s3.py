"""SeaweedFS natively: one process with all its servers, on loopback."""

import json
import shutil
import sys
from pathlib import Path

from trainer.core.errors import SettingsError
from trainer.service import secrets
from trainer.service.native.part import Part, answers
from trainer.service.settings import ServiceSettings

__all__ = ["PORTS", "part", "program", "users"]

_ADDRESS = "127.0.0.1"
_SERVERS = (
    "s3",
    "s3.port.grpc",
    "master",
    "master.port.grpc",
    "volume",
    "volume.port.grpc",
    "filer",
    "filer.port.grpc",
)
PORTS = len(_SERVERS)
"""It listens on SERVICE_S3_PORT and the next ones."""
_OFF = ("s3.port.iceberg", "s3.port.lance")


def part(data: Path, settings: ServiceSettings, secret_folder: Path) -> Part:
    """Return the S3 server; writes the file with the keys of its one user."""
    data.mkdir(exist_ok=True, mode=0o700)
    user_file = data / "users.json"
    secrets.write_private(user_file, json.dumps(users(secret_folder), indent=2))
    ports = [
        f"-{name if name.endswith('grpc') else f'{name}.port'}={settings.s3_port + index}"
        for index, name in enumerate(_SERVERS)
    ]
    options = [
        *(f"-{name}=0" for name in _OFF),
        *(f"-ip={_ADDRESS}", f"-ip.bind={_ADDRESS}", f"-dir={data}", "-filer", "-s3", f"-s3.config={user_file}"),
        # Files of 1 GB, as many as the disk has room for.
        *("-master.volumeSizeLimitMB=1024", "-volume.max=0", "-master.telemetry=false"),
        *(f"-filer.localSocket={data / 'filer.sock'}", f"-s3.localSocket={data / 's3.sock'}"),
        "-volume.preStopSeconds=1",
    ]
    return Part(
        name="s3",
        command=[program(), "-logtostderr", "server", *ports, *options],
        ready=lambda: answers(settings.s3_port, "/healthz"),
        store=True,
        # Its servers wait 15 s for each other; the files are complete, for the server that writes them ends before.
        stop_seconds=5,
    )


def users(secret_folder: Path) -> dict[str, object]:
    """Return what `-s3.config` takes: one user with every right."""
    keys = {
        "accessKey": secrets.read(secret_folder, "s3_access_key"),
        "secretKey": secrets.read(secret_folder, "s3_secret_key"),
    }
    return {"identities": [{"name": "mlflow", "credentials": [keys], "actions": ["Admin"]}]}


def program() -> str:
    """Return the path of `weed`. Raises SettingsError when it is not installed."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise SettingsError("SeaweedFS must be installed, but is not. Run: make service-setup")
    return found
