"""Scripts in docker/: which service they work on, and what they say where something is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

pytestmark = pytest.mark.service
_STOPPED = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
_DATA_COMMANDS = ["backup", "gc", "restore", "verify"]


@pytest.fixture
def checkout(root, tmp_path):
    """A checkout with the scripts alone, and a PATH without a real `docker`, whose python3 has no package."""
    copied = tmp_path / "check out"
    shutil.copytree(root / "docker", copied / "docker", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "bin").mkdir()
    for program in ("awk", "cut", "dirname", "ls", "sed", "tail"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program))
    write_program(tmp_path / "bin/python3", f'exec {os.path.realpath("/usr/bin/python3")} -S "$@"')
    return copied


def write_program(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)


def write_docker(checkout, *lines):
    """A program `docker`, which also writes its arguments down."""
    write_program(checkout.parent / "bin/docker", f'echo "$@" >> "{checkout.parent}/calls"', *lines)


def write_python(checkout):
    """An environment of the checkout that writes down what it runs."""
    lines = ("case $1 in -c) exit 0 ;; esac", f'echo "$@" >> "{checkout.parent}/modules"')
    write_program(checkout / ".venv/bin/python", *lines)


def use(folder):
    (folder / "secrets").mkdir(parents=True)
    (folder / "secrets/admin_password").touch()


def run(checkout, script, *words):
    names = {"PATH": f"{checkout.parent}/bin", "HOME": str(checkout.parent)}
    command = ["/bin/sh", str(checkout / f"docker/{script}.sh"), *words]
    return subprocess.run(command, env=names, cwd="/", capture_output=True, text=True, check=False)


def check_refused(done, *said):
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert [one for one in said if one not in line] == [], line
    assert len(line) < 400


def written(checkout, name):
    path: Path = checkout.parent / name
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("script", ["init", "users", *_DATA_COMMANDS])
def test_without_an_environment_it_says_what_to_run(checkout, script):
    check_refused(run(checkout, script), "make service-setup", "docker compose -f docker/compose.yaml up")


@pytest.mark.parametrize(
    ("script", "module"),
    [("init", "secrets"), ("users", "accounts.apply"), ("gc", "backups.clean_up"), ("restore", "backups.restore")],
)
def test_the_environment_of_the_checkout_needs_no_activation(checkout, script, module):
    write_python(checkout)

    assert run(checkout, script).returncode == 0

    (ran,) = written(checkout, "modules")
    assert ran.split()[:2] == ["-m", f"trainer.service.{module}"]


@pytest.mark.parametrize("script", ["users", *_DATA_COMMANDS])
def test_a_stopped_engine_is_not_taken_for_the_other_service(checkout, script):
    write_python(checkout)
    write_docker(checkout, f"echo '{_STOPPED}' >&2", "exit 1")
    use(checkout / "docker")

    check_refused(run(checkout, script), _STOPPED, "--native")

    assert written(checkout, "modules") == []


@pytest.mark.parametrize("program", [["exit 0"], None], ids=["not started", "no docker"])
def test_a_service_that_is_away_is_not_taken_for_the_other(checkout, program):
    write_python(checkout)
    use(checkout / "docker")
    if program:
        write_docker(checkout, *program)

    check_refused(run(checkout, "restore", "--replace"), "Docker", "--native")

    assert written(checkout, "modules") == []


def test_the_user_chooses_where_both_have_data(checkout):
    write_python(checkout)
    write_docker(checkout, "echo 0123")
    use(checkout / "docker")
    use(checkout / "service")

    check_refused(run(checkout, "restore", "a b", "--replace"), "--compose", "--native")
    assert written(checkout, "modules") == []
    assert run(checkout, "restore", "a b", "--native", "--replace").returncode == 0
    assert written(checkout, "modules") == ["-m trainer.service.backups.restore a b --replace"]
    assert run(checkout, "restore", "--compose", "a b", "--replace").returncode == 0
    assert written(checkout, "calls")[-1].endswith("run --rm -T backup backups.restore a b --replace")
    assert len(written(checkout, "modules")) == 1


def test_the_service_with_docker_is_found(checkout):
    write_docker(checkout, "echo 0123")
    use(checkout / "docker")

    assert run(checkout, "backup", "--verify").returncode == 0

    assert written(checkout, "calls")[-1].endswith("run --rm -T backup backups.backup --verify")


def test_docker_is_not_asked_where_it_was_never_used(checkout):
    write_python(checkout)
    write_docker(checkout, "exit 1")
    use(checkout / "service")

    assert run(checkout, "backup").returncode == 0

    assert written(checkout, "calls") == []
    assert written(checkout, "modules") == ["-m trainer.service.backups.backup"]


def test_studies_get_a_database_of_their_own(root, service):
    done = subprocess.run(
        [root / "docker/studies.sh"],
        env={**os.environ, **service.settings},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    where = {"host": "127.0.0.1", "port": service.settings["SERVICE_POSTGRES_PORT"], "user": "optuna"}
    with psycopg.connect(**where, dbname="optuna", password=service.secret("studies_password")) as connection:
        connection.execute("create table trials (id integer)")


def test_studies_need_a_service(root, tmp_path):
    names = {**os.environ, "SERVICE_FOLDER": str(tmp_path)}
    done = subprocess.run([root / "docker/studies.sh"], env=names, capture_output=True, text=True, check=False)

    check_refused(done, "make service")
