"""All versions of a registered model, however many there are."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["versions_of"]

_PAGE = 1000


def versions_of(client: "MlflowClient", model: str) -> "list[ModelVersion]":
    """Versions by rising number, without their aliases; none when there is no such model."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{model}'", max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))
