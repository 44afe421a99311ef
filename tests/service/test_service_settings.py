import re

import dotenv
import pytest

from trainer.core.errors import SettingsError
from trainer.service.settings import SETTINGS_FILE, ServiceSettings


def test_the_committed_file_is_read():
    settings = ServiceSettings.read(environment={})

    assert settings.url == "https://localhost:8443"
    assert settings.hosts == ("localhost",)


def test_the_documentation_has_every_setting_with_its_default(root):
    page = (root / "docs" / "service.md").read_text()
    documented = dict(re.findall(r"^\| `(SERVICE_\w+)` \| ?`?([^`|]*?)`? \|", page, re.MULTILINE))

    assert documented == {name: value or "" for name, value in dotenv.dotenv_values(SETTINGS_FILE).items()}


def test_the_environment_comes_before_the_file():
    environment = {"SERVICE_HOST": "mlflow.example, other", "SERVICE_PORT": "443", "SERVICE_PREFIX": "/mlflow"}

    settings = ServiceSettings.read(environment=environment)

    assert settings.hosts == ("mlflow.example", "other")
    assert settings.url == "https://mlflow.example:443/mlflow"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_PORT", "https"),
        ("SERVICE_PREFIX", "mlflow"),
        ("SERVICE_PREFIX", "/mlflow/"),
        ("SERVICE_WORKERS", "0"),
        ("SERVICE_DISK_FREE", "100"),
        ("SERVICE_BACKUP_KEEP", "0"),
        ("SERVICE_HOST", " , "),
    ],
)
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(SettingsError, match=name):
        ServiceSettings.read(environment={name: value})


def test_the_most_similar_name_is_offered(tmp_path):
    file = tmp_path / ".env"
    file.write_text(f"{SETTINGS_FILE.read_text()}SERVICE_PROT=8443\n")

    with pytest.raises(SettingsError, match=r"`SERVICE_PROT` .* `SERVICE_PORT`"):
        ServiceSettings.read(file, {})
