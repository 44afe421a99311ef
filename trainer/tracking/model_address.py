"""Addresses of models on a tracking server: resolved to a version, and downloaded."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.core.errors import ModelError, RegistryError, nearest, shorten
from trainer.core.input_files import is_file
from trainer.core.redaction import redact
from trainer.tracking.artifact_store import install_advice
from trainer.tracking.connection import connect
from trainer.tracking.refusals import check_registry_right, explain_refusal
from trainer.tracking.registered_models import list_versions, model_names, read_aliases

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["download_model", "find_logged_model", "resolve", "resolve_on_server"]

_ADDRESS = re.compile(r"models:/+(?P<name>[^/@]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))")
_MAX_CAUSE, _NAMES_SHOWN = 200, 5


def resolve(client: "MlflowClient", address: str) -> str:
    """Return `models:/NAME/VERSION` for an alias or `latest`, any other address unchanged.

    Raises RegistryError when the registered model, version or alias does not exist.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return address
    name, alias, version = match["name"], match["alias"], match["version"]
    versions = _versions(client, name)
    if alias:
        version = str(read_aliases(client, name).get(alias))
    elif version == "latest":
        version = max(versions, key=int, default=None)
    if version not in versions:
        aliases = [f"@{alias} (version {number})" for alias, number in read_aliases(client, name).items()]
        raise RegistryError(
            f"Registered model `{name}` does not have {shorten(address)}. Newest versions: "
            f"{', '.join(versions[-_NAMES_SHOWN:])}; aliases: {', '.join(aliases[:_NAMES_SHOWN]) or 'none'}."
        )
    return f"models:/{name}/{version}"


def resolve_on_server(address: str) -> str:
    """Return `resolve` of an address on the tracking server of the environment, with its refusals explained."""
    from mlflow.exceptions import MlflowException

    backend = connect()
    try:
        return resolve(backend.client, address)
    except RegistryError:
        if match := _ADDRESS.fullmatch(address):
            check_registry_right(backend, match["name"], reads=True)
        raise
    except MlflowException as error:
        if refusal := explain_refusal(error):
            raise RegistryError(f"Cannot read model {shorten(redact(address))} ({refusal[0]}). {refusal[1]}") from None
        raise RegistryError(f"Cannot look up model {address} in the registry: {redact(error.message)}") from error


def _versions(client: "MlflowClient", name: str) -> list[str]:
    found = list_versions(client, name)
    if not found:
        names = model_names(client)
        if name in names:
            raise RegistryError(
                f"Registered model `{name}` has no versions. Train with register=true, or promote a run."
            )
        raise RegistryError(
            f"No model `{name}` is registered on the tracking server.{nearest(name, names)} "
            f"Registered: {', '.join(names[:_NAMES_SHOWN]) or 'none'}. "
            "Register one: train with register=true, or promote a run."
        )
    return [str(version.version) for version in found]


def download_model(source: str, scratch: Path) -> Path:
    """Return the folder below `scratch` with the files of a model. Raises ModelError when they cannot be read."""
    import mlflow

    shown = shorten(redact(source))
    try:
        folder = Path(mlflow.artifacts.download_artifacts(source, dst_path=str(scratch)))
    except Exception as error:  # each kind of artifact store has its own errors
        if refusal := explain_refusal(error):
            raise ModelError(f"Cannot download model {shown} ({refusal[0]}). {refusal[1]}") from None
        cause = shorten(redact(str(error)), _MAX_CAUSE).rstrip(".")
        advice = f" {install_advice(source, error)}." if isinstance(error, ModuleNotFoundError) else ""
        raise ModelError(f"Cannot download model {shown}: {cause}.{advice}") from error
    if not is_file(folder / "MLmodel"):  # MLflow downloads nothing from a folder that is gone
        raise ModelError(
            f"Cannot find the files of model {shown} in the artifact store: they were moved or deleted, or it is no "
            "model. Restore them, or choose another version."
        )
    return folder


def find_logged_model(client: "MlflowClient", source: str) -> str:
    """Return the id of the logged model behind a resolved address; empty where the server has none.

    source: `models:/NAME/VERSION`, `models:/MODEL_ID`, `runs:/RUN_ID/…`.
    """
    from mlflow.exceptions import MlflowException

    kind, _, rest = source.partition(":/")
    first, _, second = rest.strip("/").partition("/")
    try:
        if kind == "models":
            target = (client.get_model_version(first, second).source or "") if second else source
            return _logged_id(client, target.rpartition("/")[2])
        run = client.get_run(first)
        found = client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{first}'")
        return max(found, key=lambda model: model.creation_timestamp).model_id if found else ""
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return ""


def _logged_id(client: "MlflowClient", model_id: str) -> str:
    return str(client.get_logged_model(model_id).model_id) if model_id.startswith("m-") else ""
