"""Registered models of a tracking server: their names, versions and aliases."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.core.model_names import LOG_SUFFIX

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["list_versions", "model_names", "read_aliases"]

_PAGE, _MODELS_PAGE = 1000, 100


def list_versions(client: "MlflowClient", model: str) -> "list[ModelVersion]":
    """Return all versions by rising number, without their aliases; none when there is no such model."""
    versions: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", max_results=_PAGE, page_token=token)
        versions += page
        token = page.token
        if not token:
            return sorted(versions, key=lambda version: int(version.version))


def model_names(client: "MlflowClient") -> list[str]:
    """Return the names of all registered models, without decision logs and prompts, sorted."""
    names: list[str] = []
    token = None
    while True:
        page = client.search_registered_models(max_results=_MODELS_PAGE, page_token=token)
        names += [model.name for model in page if not model.name.endswith(LOG_SUFFIX)]
        token = page.token
        if not token:
            return sorted(names)


def read_aliases(client: "MlflowClient", model: str) -> dict[str, int]:
    """Return the version of each alias; none when there is no such registered model."""
    from mlflow.exceptions import MlflowException

    try:
        # Searches return versions without their aliases (mlflow issue 16734).
        aliases: Mapping[str, str] = client.get_registered_model(model).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}
    return {alias: int(version) for alias, version in aliases.items()}
