"""What stops `make service` before it starts anything: each says what and what to do, and leaves nothing half-made."""

import datetime
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.service.running import free_ports, start_process
from trainer.core.errors import EmotionsError, SettingsError
from trainer.service import certificates, secrets
from trainer.service.native import checks, install, postgres
from trainer.service.settings import SETTINGS_FILE, ServiceSettings


def settings(**changes):
    return ServiceSettings.read(
        environment={f"SERVICE_{name.upper()}": str(value) for name, value in (free_ports() | changes).items()}
    )


def refused(**changes):
    """The output of `make service` that must fail."""
    variables = {f"SERVICE_{name.upper()}": str(value) for name, value in (free_ports() | changes).items()}
    process = start_process(variables)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in output
    return output


@pytest.fixture
def folder(open_folder):
    return open_folder / "service"


@pytest.fixture
def secret_folder(tmp_path):
    secrets.make(tmp_path / "secrets", settings())
    return tmp_path / "secrets"


@pytest.mark.parametrize("name", ["port", "tracking_port", "postgres_port", "s3_port", "health_port", "serve_port"])
def test_a_port_in_use_is_named_with_its_setting(name):
    ports = free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[name]))
        taken.listen()
        with pytest.raises(SettingsError, match=rf"{ports[name]} .*`SERVICE_{name.upper()}`"):
            checks.check_ports(settings(**ports))


def test_two_settings_with_one_port_are_refused():
    with pytest.raises(SettingsError, match="`SERVICE_TRACKING_PORT`"):
        checks.check_ports(settings(port=25999, tracking_port=25999))


def test_a_refused_start_makes_nothing(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        output = refused(folder=folder, port=taken.getsockname()[1])

    assert "SERVICE_PORT" in output
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_data_of_another_postgresql_is_refused(folder):
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("9\n")

    output = refused(folder=folder)

    assert "PostgreSQL 9" in output
    assert "SERVICE_FOLDER" in output


def test_a_second_service_on_a_folder_is_refused(folder):
    folder.mkdir()
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711")
        file.flush()

        assert "4711" in refused(folder=folder)


def test_a_part_that_dies_at_its_start_is_shown_with_its_log(folder):
    folder.mkdir()
    secrets.make(folder / "secrets", settings())
    postgres.make_data(folder / "postgres", folder / "secrets")
    with (folder / "postgres" / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = lots\n")
    ports = free_ports()

    output = refused(folder=folder, **ports)

    assert "`postgres`" in output
    assert "shared_buffers" in output
    checks.check_ports(settings(**ports))  # nothing is left that listens


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4711)

    with pytest.raises(SettingsError, match="`SERVICE_FOLDER`"):
        checks.check_folder(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    tmp_path.chmod(0o711)

    with pytest.raises(SettingsError, match="`SERVICE_FOLDER`"):
        checks.check_folder(tmp_path / "file" / "service")


def test_a_path_too_long_for_sockets_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="`SERVICE_FOLDER` must be at most 83 bytes"):
        checks.check_folder(tmp_path / ("ü" * 50))

    assert not list(tmp_path.iterdir())


def test_root_is_told_of_a_closed_folder(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    with pytest.raises(SettingsError, match="`SERVICE_FOLDER`"):
        checks.check_folder(tmp_path / "closed" / "service")


class TestSecrets:
    def test_are_kept_and_not_printed(self, tmp_path):
        command = [SETTINGS_FILE.with_name("init.sh"), tmp_path / "secrets"]
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        before = {path: path.read_bytes() for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

        assert {path: path.read_bytes() for path in before} == before
        assert {path.name for path in before} >= {"admin_password", "pgpass", "server.key", "ca.crt"}
        assert not [path for path, value in before.items() if value.decode().strip() in first.stdout + second.stdout]
        assert {path.stat().st_mode & 0o077 for path in before if path.suffix != ".crt"} == {0}

    @pytest.mark.parametrize(
        "value", ["short", "password1234", "administrator1", "aaaaaaaaaaaaaa", "mlflow-mlflow-mlflow", "qwertyuiop12"]
    )
    def test_a_weak_password_is_refused(self, secret_folder, value):
        secrets.write_private(secret_folder / "admin_password", value)

        with pytest.raises(SettingsError, match="admin_password") as refusal:
            secrets.check(secret_folder, settings())
        assert value not in str(refusal.value)

    def test_a_strong_password_of_the_user_is_taken(self, secret_folder):
        secrets.write_private(secret_folder / "admin_password", "six green umbrellas / 'sing'")

        secrets.make(secret_folder, settings())

        assert secrets.read(secret_folder, "admin_password") == "six green umbrellas / 'sing'"

    def test_a_file_that_others_read_is_refused(self, secret_folder):
        (secret_folder / "flask_secret_key").chmod(0o644)

        with pytest.raises(SettingsError, match=r"chmod 600 .*flask_secret_key"):
            secrets.check(secret_folder, settings())

    def test_a_missing_file_is_named(self, secret_folder):
        (secret_folder / "s3_secret_key").unlink()

        with pytest.raises(SettingsError, match="s3_secret_key"):
            secrets.check(secret_folder, settings())

    def test_a_webhook_key_of_the_wrong_kind_is_refused(self, secret_folder):
        secrets.write_private(secret_folder / "webhook_key", "correct horse battery staple")

        with pytest.raises(SettingsError, match="webhook_key"):
            secrets.check(secret_folder, settings())

    def test_pgpass_escapes_what_libpq_reads_as_syntax(self, secret_folder):
        secrets.write_private(secret_folder / "postgres_password", r"zebra:crossing\at noon")

        secrets.make(secret_folder, settings())

        assert secrets.read(secret_folder, "pgpass").endswith(r"zebra\:crossing\\at noon")


class TestCertificates:
    @pytest.mark.parametrize("name", ["server.crt", "server.key"])
    @pytest.mark.parametrize("content", [None, b"not PEM"])
    def test_an_unreadable_file_is_named(self, secret_folder, name, content):
        (secret_folder / "tls" / name).unlink()
        if content:
            (secret_folder / "tls" / name).write_bytes(content)

        with pytest.raises(SettingsError, match=name):
            certificates.check(secret_folder / "tls")

    def test_a_key_of_another_certificate_is_refused(self, secret_folder):
        other = secret_folder / "tls" / "ca.key"
        (secret_folder / "tls" / "server.key").write_bytes(other.read_bytes())

        with pytest.raises(SettingsError, match=r"server\.key .*server\.crt"):
            certificates.check(secret_folder / "tls")

    def test_a_key_with_a_password_is_refused(self, secret_folder):
        encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        (secret_folder / "tls" / "server.key").write_bytes(encrypted)

        with pytest.raises(SettingsError, match=r"server\.key"):
            certificates.check(secret_folder / "tls")

    def test_an_expired_certificate_is_refused_with_its_dates(self, tmp_path):
        own_pair(tmp_path, days=-1)

        with pytest.raises(SettingsError, match=r"server\.crt .*20\d\d-\d\d-\d\d"):
            certificates.check(tmp_path)

    def test_the_users_own_files_stay(self, tmp_path):
        own_pair(tmp_path, days=5)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}

        certificates.make(tmp_path, ["elsewhere.example"])

        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        certificates.check(tmp_path)

    def test_a_new_host_gets_a_new_certificate_of_the_same_authority(self, secret_folder):
        tls = secret_folder / "tls"
        authority, server = (tls / "ca.crt").read_bytes(), (tls / "server.crt").read_bytes()

        certificates.make(tls, ["mlflow.example"])

        assert (tls / "ca.crt").read_bytes() == authority
        assert (tls / "server.crt").read_bytes() != server
        certificates.check(tls)


class TestInstall:
    def test_without_the_permission_the_command_for_an_administrator_is_shown(self, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(install.shutil, "which", {"apt-get": "/usr/bin/apt-get"}.get)

        with pytest.raises(SettingsError, match=r"permission .*apt-get install .*nginx-light"):
            install.install(["nginx-light"])

    def test_a_machine_without_apt_is_told_what_to_install(self, monkeypatch):
        monkeypatch.setattr(install.shutil, "which", lambda _: None)

        with pytest.raises(SettingsError, match=r"nginx-light .*apt-get"):
            install.install(["nginx-light"])

    def test_apt_that_fails_is_an_error(self, monkeypatch, tmp_path):
        apt = tmp_path / "apt-get"
        apt.write_text("#!/bin/sh\nexit 100\n")
        apt.chmod(0o755)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

        with pytest.raises(EmotionsError, match="nginx-light"):
            install.install(["nginx-light"])


def own_pair(folder, days):
    """A certificate and its key as a user brings them, valid until `days` from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = certificates.x509.Name([])
    certificate = (
        certificates.x509.CertificateBuilder(name, name, key.public_key(), certificates.x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
