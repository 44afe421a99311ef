"""The first container of docker/compose.yaml: each other container gets its secrets, and no more."""

import os
import re
import stat
import subprocess
import sys

import pytest

from trainer.core.environment import child_environment
from trainer.service import containers, secrets
from trainer.service.accounts.roles import PROGRAMS
from trainer.service.settings import ServiceSettings

pytestmark = pytest.mark.service
_SECRETS = [
    *("admin_password", "train_password", "postgres_password", "s3_secret_key", "studies_password", "flask_secret_key")
]


@pytest.fixture
def owners(monkeypatch):
    """Who got which file; only root can really give one away."""
    given = {}
    monkeypatch.setattr(os, "chown", lambda path, user, group, **options: given.__setitem__(str(path), (user, group)))
    return given


@pytest.fixture
def settings():
    return ServiceSettings.read(environment={"SERVICE_HOST": "ml.example.org,localhost", "SERVICE_PREFIX": "/mlflow"})


@pytest.fixture
def made(tmp_path, settings):
    """A folder of secrets."""
    secrets.make(tmp_path / "secrets", settings)
    return tmp_path / "secrets"


@pytest.fixture
def parts(tmp_path):
    """The volume, with the folders that are volumes themselves."""
    for name, container in containers.CONTAINERS.items():
        for volume in container.volumes:
            (tmp_path / "parts" / name / volume).mkdir(parents=True)
    return tmp_path / "parts"


def run_main(monkeypatch, folder, parts, like):
    words = ["--secrets", str(folder), "--parts", str(parts), "--like", str(like)]
    monkeypatch.setattr(sys, "argv", ["containers", *words])
    return containers.main()


def test_each_user_alone_reads_its_folder(made, parts, settings, owners):
    containers.fill(made, parts, settings)

    for name, container in containers.CONTAINERS.items():
        for path in ((parts / name), *(parts / name).iterdir()):
            assert owners[str(path)] == (container.user, container.user)
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            assert path.is_dir() == (path.name in (name, *container.volumes))


def test_no_two_containers_share_a_user():
    users = [container.user for container in containers.CONTAINERS.values()]

    assert 0 not in users
    assert len(users) == len(set(users))


def test_a_secret_is_only_where_it_is_needed(made, parts, settings, owners):
    containers.fill(made, parts, settings)
    text = {
        name: " ".join(path.read_text() for path in (parts / name).iterdir() if path.is_file())
        for name in containers.CONTAINERS
    }
    holders = {
        secret: {name for name, content in text.items() if secrets.read(made, secret) in content} for secret in _SECRETS
    }

    assert holders["admin_password"] == {"tracking"}
    assert holders["train_password"] == {"tracking", "train"}
    assert holders["postgres_password"] == {"postgres", "tracking"}
    assert holders["s3_secret_key"] == {"s3", "tracking"}
    assert holders["studies_password"] == {"postgres", "train", "dashboard"}
    assert holders["flask_secret_key"] == {"tracking"}
    assert (made / "tls/ca.key").read_text() not in " ".join(text.values())


def test_filling_again_takes_over_changed_secrets(made, parts, settings, owners):
    containers.fill(made, parts, settings)
    secrets.write_private(made / "flask_secret_key", "another-long-random-value-0123")

    containers.fill(made, parts, settings)

    assert (parts / "tracking/flask_secret_key").read_text().strip() == "another-long-random-value-0123"


def test_nginx_takes_the_configuration_of_the_edge(made, parts, settings, owners, tmp_path):
    containers.fill(made, parts, settings)
    main = parts / "edge/nginx.conf"
    main.chmod(0o600)
    main.write_text(re.sub(r'(pid|_path) "/tmp', rf'\1 "{tmp_path}', main.read_text()))  # leaves nothing behind

    names = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    command = ["nginx", "-t", "-e", "stderr", "-c", main]
    done = subprocess.run(command, env=names, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    text = (parts / "edge/edge.conf").read_text()
    assert {"listen 8443 ssl;", "server_name ml.example.org localhost 127.0.0.1;"} <= {
        line.strip() for line in text.splitlines()
    }
    assert "resolver 127.0.0.11" in text


def test_the_passwords_belong_to_the_user_who_typed_the_command(tmp_path, parts, owners, monkeypatch, capsys):
    like = tmp_path / "compose.yaml"
    like.touch()
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)  # as Docker makes it

    assert run_main(monkeypatch, folder, parts, like) == 0

    mine = (like.stat().st_uid, like.stat().st_gid)
    assert owners[str(folder)] == owners[str(folder / "admin_password")] == owners[str(folder / "tls/ca.crt")] == mine
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    said = capsys.readouterr().out
    exports = [line.split()[1].partition("=")[0] for line in said.splitlines() if line.startswith("  export ")]
    assert exports == [f"MLFLOW_TRACKING_{name}" for name in ("URI", "SERVER_CERT_PATH", "USERNAME", "PASSWORD")]
    assert "docker/secrets/admin_password" in said
    assert secrets.read(folder, "admin_password") not in said


def test_a_weak_password_stops_the_start(tmp_path, made, parts, owners, monkeypatch, capsys):
    secrets.write_private(made / "admin_password", "password1234")

    assert run_main(monkeypatch, made, parts, made / "pgpass") == 1

    assert "admin_password" in capsys.readouterr().err
    assert not (parts / "tracking/admin_password").exists()


def test_the_secrets_of_the_server_suffice(service, parts, settings, owners):
    """Its jobs run with the folder of its container, on the databases of a running service."""
    containers.fill(service.folder / "secrets", parts, settings)
    backups = parts / "tracking/backups"
    where = ["--database", f"127.0.0.1:{service.settings['SERVICE_POSTGRES_PORT']}"]
    where += ["--s3", f"127.0.0.1:{service.settings['SERVICE_S3_PORT']}", "--backups", str(backups)]
    where += ["--health", f"127.0.0.1:{service.settings['SERVICE_HEALTH_PORT']}"]  # without it, its webhook is removed

    done = subprocess.run(
        [sys.executable, "-m", "trainer.service.prepare", "--secrets", parts / "tracking", *where],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    listed = service.request("GET", "/api/2.0/mlflow/webhooks").json()["webhooks"]  # readable: made with the same key
    assert [webhook["name"] for webhook in listed] == ["notices"]


def test_the_service_makes_the_accounts_of_its_programs(service):
    listed = service.request("GET", "/api/2.0/mlflow/users/list").json()["users"]
    roles = {user["username"]: {role["name"] for role in user["roles"]} for user in listed}

    assert {name: roles[name] for name in PROGRAMS} == {"serve": {"serve"}, "train": {"writer"}}


@pytest.mark.parametrize("api", ["api", "ajax-api"])
def test_clients_are_not_sent_to_the_object_store(service, api):
    """A client on another machine, or in another container, does not reach it."""
    told = service.request("GET", f"/{api}/3.0/mlflow/server-info").json()
    presigned = service.request("GET", f"/{api}/2.0/mlflow-artifacts/presigned/0/run/artifacts/file")

    assert (told["multipart_uploads_enabled"], told["multipart_downloads_enabled"]) == (False, False)
    assert presigned.status_code == 501
    assert told["store_type"] == "SqlStore"
