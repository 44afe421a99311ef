"""Registered versions of one classifier, each with another calibration."""

import pytest


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Saved models of the starter's encoder that differ in their temperature."""
    from served_models import save

    root = tmp_path_factory.mktemp("served")
    return [save(root / f"version{temperature:g}", temperature) for temperature in (1.0, 2.0, 4.0, 8.0)]


@pytest.fixture
def client(tracking_uri, folders):
    """All of them as versions 1 to 4 of `emotions`, the first one the champion."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    client.create_registered_model("emotions")
    for folder in folders:
        client.create_model_version("emotions", str(folder))
    client.set_registered_model_alias("emotions", "champion", "1")
    return client
