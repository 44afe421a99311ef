"""Every entry point against the service: TLS, login, path prefix, a proxy, studies on PostgreSQL, artifacts on S3.

All secrets are planted ones, and none of them is anywhere afterwards.
"""

import base64
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.service.account_helpers import make_accounts
from tests.service.planted import (
    ProcessWatch,
    Secret,
    find_in_database,
    find_in_files,
    find_in_objects,
    find_in_text,
)
from trainer.core.environment import child_environment
from trainer.core.errors import TrackingError

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
BUCKET = "clients"
EXPERIMENT = "clients on S3"
_PROXY = """
import os, proxy, sys
options = "--hostname 127.0.0.1 --port 0 --num-workers 1 --num-acceptors 1 --port-file".split()
with proxy.Proxy([*options, sys.argv[1], "--basic-auth", os.environ["PROXY_LOGIN"]]):
    sys.stdin.read()
"""
_TRAINING = {"epochs": 1, "bootstrap_resamples": 100, "batch_size": 16, "micro_batch_size": 8}
_TEXTS = {"joy": "what a lovely happy day", "anger": "this is awful and I am angry", "fear": "I am so afraid of this"}


def _without(environment):
    """The environment without variables of this machine that a client reads; empty ones would count as set."""
    proxies = {f"{name}_proxy" for name in ("http", "https", "no", "all")}
    others = {"requests_ca_bundle", "curl_ca_bundle", "aws_ca_bundle"}
    return {name: value for name, value in environment.items() if name.lower() not in proxies | others}


@dataclass
class Client:
    """A user with a folder and an environment, who runs commands."""

    folder: Path
    environment: dict[str, str]
    secrets: list[Secret]
    outputs: dict[str, str] = field(default_factory=dict)

    def run(self, *argv, **variables):
        """Run a command; return its exit status and output."""
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env=_without(child_environment()) | self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        self.outputs[f"{len(self.outputs)} {' '.join(argv[:5])}"] = done.stdout
        return done.returncode, done.stdout

    def project(self, entry_point, *options, **settings):
        """Run `mlflow run . -e entry_point`."""
        flags = [word for name, value in settings.items() for word in ("-P", f"{name}={value}")]
        mlflow = str(Path(sys.executable).with_name("mlflow"))
        return self.run(mlflow, "run", ".", "--env-manager", "local", "-e", entry_point, *options, *flags)

    def module(self, module, variables=None, **settings):
        """Run `python -m module`."""
        flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return self.run(sys.executable, "-m", module, *flags, **(variables or {}))


@pytest.fixture(scope="module")
def service(service_below_a_path):
    return service_below_a_path


@pytest.fixture(scope="module")
def secrets(service):
    made = [Secret.make(name) for name in ("user", "study", "wrong")]
    ascii_only = [Secret.make(name, ascii_only=True) for name in ("proxy", "token")]
    key = service.secret("s3_secret_key")
    return {one.name: one for one in (*made, *ascii_only, Secret("S3 key", key, (key,)))}


@pytest.fixture(scope="module")
def proxy(secrets, tmp_path_factory):
    """Address of a proxy that asks for a login, and the file of its log."""
    folder = tmp_path_factory.mktemp("proxy")
    port, log = folder / "port", folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROXY, str(port)],
            env=child_environment() | {"PROXY_LOGIN": f"ann:{secrets['proxy'].text}"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    while not (port.exists() and port.read_text().strip()):
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    yield f"127.0.0.1:{port.read_text().strip()}", log
    process.stdin.close()
    process.wait()


@pytest.fixture(scope="module")
def administrator(service):
    """Options of a connection to PostgreSQL as its administrator."""
    port = service.settings["SERVICE_POSTGRES_PORT"]
    return {"host": "127.0.0.1", "port": port, "user": "mlflow", "password": service.secret("postgres_password")}


@pytest.fixture(scope="module")
def studies(administrator, secrets):
    """OPTUNA_STORAGE: a database of its own, of a user whose password is planted."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(dbname="postgres", autocommit=True, **administrator) as database:
        password = sql.Literal(secrets["study"].text)
        database.execute(sql.SQL("create role study login password {}").format(password))
        database.execute("create database studies owner study")
    return f"postgresql://study:{secrets['study'].quoted}@127.0.0.1:{administrator['port']}/studies"


@pytest.fixture(scope="module")
def store(service):
    """A client of the S3 server with a bucket for direct use."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{service.settings['SERVICE_S3_PORT']}",
        region_name="us-east-1",
        aws_access_key_id=service.secret("s3_access_key"),
        aws_secret_access_key=service.secret("s3_secret_key"),
    )
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture(scope="module")
def client(service, secrets, proxy, studies, store, tmp_path_factory):
    """A promoter with all that the environment of a client may have."""
    folder = tmp_path_factory.mktemp("client")
    passwords = tmp_path_factory.mktemp("passwords")
    (passwords / "promoter").write_text(secrets["user"].text, encoding="utf-8")
    user, password = make_accounts(service, "clients", passwords)["promoter"]
    for name, bucket in ((EXPERIMENT, BUCKET), ("clients without a bucket", "missing")):
        body = {"name": name, "artifact_location": f"s3://{bucket}"}
        created = service.request("POST", "/api/2.0/mlflow/experiments/create", json=body)
        assert created.ok, created.text
    variables = service.environment(user, password) | {
        "HTTPS_PROXY": f"http://ann:{secrets['proxy'].quoted}@{proxy[0]}",
        "OPTUNA_STORAGE": studies,
        "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
        "MLFLOW_S3_ENDPOINT_URL": store.meta.endpoint_url,
        "AWS_ACCESS_KEY_ID": service.secret("s3_access_key"),
        "AWS_SECRET_ACCESS_KEY": secrets["S3 key"].text,
        "HF_TOKEN": secrets["token"].text,
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    write_data(folder / "data")
    return Client(folder, variables, list(secrets.values()))


def write_data(folder):
    folder.mkdir()
    for role, copies in (("train", 12), ("dev", 6), ("test", 6)):
        rows = [
            f"{text} {role} {number},{','.join(str(int(label == other)) for other in _TEXTS)}"
            for number in range(copies)
            for label, text in _TEXTS.items()
        ]
        (folder / f"{role}.csv").write_text("\n".join([f"text,{','.join(_TEXTS)}", *rows]) + "\n")


@pytest.fixture(scope="module")
def session(client):
    """The commands of a user in their order: name → exit status and output; and what the process list had."""
    done = {}
    runs, model = client.folder / "runs", "clients"
    (client.folder / "texts.csv").write_text("text\nwhat a day\nso afraid\n")
    training = _TRAINING | {"dataset": client.folder / "data", "output": runs}
    with ProcessWatch(client.secrets) as watch:
        done["train"] = client.project("train", "--experiment-name", EXPERIMENT, **training)
        trained = [path.parent.name for path in runs.glob("*/config.json")]
        done["promote"] = client.project(
            "promote", "--experiment-name", EXPERIMENT, run_id=trained[0], registered_model=model, output=runs
        )
        served = {"MLFLOW_EXPERIMENT_NAME": "clients served"}
        done["tune"] = client.module("tuning.tune", served, **training, study="clients", trials=2, workers=2, top_k=0)
        texts, scored = client.folder / "texts.csv", client.folder / "scored.csv"
        done["predict"] = client.module(
            "registry.predict", input=texts, output=scored, model=f"models:/{model}@champion"
        )
        done["history"] = client.module("registry.history", registered_model=model)
        done["rollback"] = client.module("registry.rollback", registered_model=model, version=1, output=runs)
        done["sync"] = client.module("trainer.sync", output=runs)
    return done, watch


@pytest.fixture
def in_process(client, monkeypatch, tmp_path):
    """Give this process the environment of the client, with changes."""
    from mlflow.store.artifact import s3_artifact_repo

    s3_artifact_repo._cached_get_s3_client.cache_clear()
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    for name in os.environ.keys() - _without(os.environ).keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def change(variables):
        for name, value in (client.environment | variables).items():
            monkeypatch.setenv(name, value)

    return change


@pytest.mark.parametrize("name", ["train", "promote", "tune", "predict", "history", "sync"])
def test_every_entry_point(session, name):
    status, shown = session[0][name]
    assert status == 0, shown


def test_a_refused_rollback_is_one_line(session):
    status, shown = session[0]["rollback"]
    assert (status, "error: " in shown, "Traceback" in shown) == (1, True, False)


def test_the_commands_went_through_the_proxy(session, proxy, service):
    assert f"CONNECT localhost:{service.settings['SERVICE_PORT']}" in proxy[1].read_text()


def test_artifacts_went_to_the_bucket_of_the_experiment(session, store):
    keys = [item["Key"] for item in store.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert [key for key in keys if key.endswith("report.html")]
    assert [key for key in keys if key.endswith("MLmodel")]


def test_texts_are_scored_by_the_champion(session, client):
    header, *rows = (client.folder / "scored.csv").read_text().splitlines()
    assert len(rows) == 2
    assert "joy" in header


def _wrong(client, secrets, service):
    """Variables with a wrong secret or a server that does not answer, each with a name that the message must have."""
    wrong, quoted = secrets["wrong"].text, secrets["wrong"].quoted
    host = f"localhost:{service.settings['SERVICE_PORT']}/mlflow"
    no_password = {"MLFLOW_TRACKING_PASSWORD": ""}
    return [
        ({"MLFLOW_TRACKING_PASSWORD": wrong}, "MLFLOW_TRACKING_PASSWORD"),
        (no_password | {"MLFLOW_TRACKING_TOKEN": secrets["token"].text}, "MLFLOW_TRACKING_TOKEN"),
        (no_password | {"MLFLOW_TRACKING_TOKEN": f"{secrets['token'].text}\n"}, "MLFLOW_TRACKING_TOKEN"),
        ({"MLFLOW_TRACKING_URI": f"https://ann:{quoted}@{host}"}, "MLFLOW_TRACKING_PASSWORD"),
        ({"MLFLOW_TRACKING_URI": f"https://ann:{wrong}@{host}"}, "MLFLOW_TRACKING_PASSWORD"),
        ({"MLFLOW_TRACKING_URI": "https://localhost:9", "HTTPS_PROXY": ""}, "MLFLOW_TRACKING_URI"),
        ({"HTTPS_PROXY": client.environment["HTTPS_PROXY"].replace(secrets["proxy"].quoted, quoted)}, "HTTPS_PROXY"),
        ({"HTTPS_PROXY": f"http://ann:{wrong}@127.0.0.1:9"}, "HTTPS_PROXY"),
        ({"MLFLOW_TRACKING_SERVER_CERT_PATH": ""}, "MLFLOW_TRACKING_SERVER_CERT_PATH"),
    ]


@pytest.mark.parametrize("case", range(9))
def test_a_refused_command_is_one_line(in_process, client, secrets, service, capsys, case):
    from registry import history

    variables, named = _wrong(client, secrets, service)[case]
    in_process(variables)
    capsys.readouterr()
    assert history.main(["--registered_model", "clients"]) == 1
    shown = "".join(capsys.readouterr())
    client.outputs[f"refused {case}"] = shown
    assert named in shown.replace("\n", "")
    assert len(shown) < 350
    assert find_in_text(client.secrets, {"output": shown}) == []


_WRONG_STORES = {  # variable: value, or none for the planted one; and what the message has
    "AWS_SECRET_ACCESS_KEY": (None, "AWS_SECRET_ACCESS_KEY"),
    "AWS_ACCESS_KEY_ID": ("nobody", "AWS_ACCESS_KEY_ID"),
    "MLFLOW_S3_ENDPOINT_URL": ("http://127.0.0.1:9", "MLFLOW_S3_ENDPOINT_URL"),
    "MLFLOW_EXPERIMENT_NAME": ("clients without a bucket", "bucket"),
}


@pytest.mark.parametrize("name", _WRONG_STORES)
def test_a_wrong_key_bucket_or_endpoint_ends_a_run_at_its_start(in_process, client, secrets, tmp_path, name):
    from trainer.tracking.run import open_run

    value, advice = _WRONG_STORES[name]
    in_process({name: value or secrets["wrong"].text})
    with pytest.raises(TrackingError, match=advice) as caught:
        open_run(tmp_path).__enter__()
    client.outputs[f"S3 {name}"] = str(caught.value)
    assert len(str(caught.value)) <= 300


def test_a_wrong_password_of_the_studies_ends_a_search_at_its_start(in_process, client, secrets, tmp_path, capsys):
    from tuning import tune

    in_process(
        {
            "OPTUNA_STORAGE": client.environment["OPTUNA_STORAGE"].replace(
                secrets["study"].quoted, secrets["wrong"].quoted
            )
        }
    )
    assert tune.main(["--dataset", str(client.folder / "data"), "--output", str(tmp_path)]) == 1
    shown = "".join(capsys.readouterr())
    client.outputs["studies"] = shown
    assert "OPTUNA_STORAGE" in shown


def test_the_search_finds_what_is_there(secrets):
    secret = secrets["user"]
    header = base64.b64encode(f"ann:{secret.text}".encode()).decode()
    forms = {"plain": secret.text, "URL": secret.quoted, "cut": secret.text[40:], "header": header}
    assert len(find_in_text([secret], forms)) == len(forms)
    assert find_in_text([secret], {"other": secrets["study"].text}) == []


def test_no_secret_is_left(session, client, service, proxy, administrator, store):
    """The last test of this file: what the others did is searched too."""
    everything = client.secrets
    places = {
        "process list": (sorted(session[1].found), session[1].looks),
        "output": (find_in_text(everything, client.outputs), len(client.outputs)),
        "client": find_in_files(everything, client.folder),
        # The server's own copies of its secrets, which only its user may read.
        "service": find_in_files(
            everything, service.folder, [service.folder / "secrets", service.folder / "s3" / "users.json"]
        ),
        "proxy": find_in_files(everything, proxy[1].parent),
        "mlflow": find_in_database(everything, dbname="mlflow", **administrator),
        "studies": find_in_database(everything, dbname="studies", **administrator),
        "objects": find_in_objects(everything, store, [one["Name"] for one in store.list_buckets()["Buckets"]]),
    }
    assert {place: found for place, (found, _) in places.items() if found} == {}
    assert {place for place, (_, count) in places.items() if not count} == set()
