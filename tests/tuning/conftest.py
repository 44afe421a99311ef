import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.tuning.tuning_helpers import Searches
from tuning.study.trials import Attribute

PASSWORD = "pa55-w0rd-of-the-storage"


@pytest.fixture
def searches(tmp_path, root, tracking_uri):
    made = Searches(tmp_path, root)
    yield made
    made.close()


@pytest.fixture
def storage():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.InMemoryStorage()


@pytest.fixture
def search(storage):
    """The study of a search whose best trials are 1, 3 and 2."""
    made = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    for score in (0.3, 0.9, 0.5, 0.7):
        trial = made.ask()
        trial.suggest_float("dropout", score, score)
        trial.set_user_attr(Attribute.SETTINGS, {"dropout": score})
        made.tell(trial, score)
    made.tell(made.ask(), state=TrialState.PRUNED)
    return made


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=1))


@pytest.fixture(scope="session")
def postgresql():
    """URL of a PostgreSQL server of this test session, without its database."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [*filter(None, [shutil.which("initdb")])]
    if not programs and not os.environ.get("CI"):
        pytest.skip("PostgreSQL must be installed for this (apt-get install postgresql), but is not")
    binaries = Path(programs[-1]).parent
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="emotions-postgresql-"))
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = folder / "data"
    words = ["-D", cluster, "-U", "tuner", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    subprocess.run([binaries / "initdb", *words], user=user, cwd=folder, check=True, capture_output=True)
    options = ["-D", cluster, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([binaries / "postgres", *options], user=user, cwd=folder, stdout=log, stderr=log)
    try:
        ready = [binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        until = time.monotonic() + 120
        while subprocess.run(ready, check=False, capture_output=True).returncode:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql+psycopg://tuner:{PASSWORD}@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGINT)  # without waiting for clients
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture
def database(postgresql):
    """URL of an empty database."""
    import psycopg

    server = postgresql.replace("+psycopg", "")
    name = f"test{time.monotonic_ns()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"{postgresql}/{name}"
