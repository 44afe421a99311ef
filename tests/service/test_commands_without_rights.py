"""What commands do when the tracking server refuses their account: at the start, or in the middle of a training."""

import re
import time
from dataclasses import dataclass
from functools import partial

import pytest

from tests.chaos import checks, commands
from tests.chaos.templates import Templates
from tests.service import slow_training
from tests.service.account_helpers import change_role, make_accounts
from tests.service.delivery import Reader, compare
from tests.service.scene import fresh
from trainer.service.accounts.roles import ADMIN

pytestmark = pytest.mark.service
_BEGIN_SECONDS = 200.0
_MODEL = "refused"


@dataclass
class Place:
    """Where commands run against a service, and what its admin sees of their runs."""

    service: object
    templates: Templates
    accounts: dict
    experiment: str
    experiment_id: str
    reader: Reader

    def start(self, folder, account, module, *words, **options):
        """Start a command of an account: a role, or name and password."""
        name, password = self.accounts[account] if isinstance(account, str) else account
        variables = self.service.environment(name, password) | {"MLFLOW_EXPERIMENT_NAME": self.experiment}
        variables |= options.pop("variables", {})
        return commands.start(folder, module, words, variables=variables, **options)

    def run(self, folder, account, module, *words):
        """Return how a command has ended."""
        return self.start(folder, account, module, *words).wait()

    def settings(self, **more):
        """Arguments of a small training."""
        given = {"dataset": self.templates.data, "model": self.templates.encoder, "max_length": 32, "epochs": 1}
        given |= {"precision": "fp32", "bootstrap_resamples": 100}
        return [word for name, value in (given | more).items() for word in (f"--{name}", value)]

    def search(self, **more):
        """Arguments of a search with one trial."""
        return self.settings(study=fresh(), trials=1, workers=1, **more)


@pytest.fixture(scope="module")
def place(service, senders, accounts, tmp_path_factory):
    experiment = fresh()
    experiment_id = senders[ADMIN].post("experiments/create", name=experiment)["experiment_id"]
    templates = Templates(tmp_path_factory.mktemp("refused") / "templates")
    return Place(service, templates, accounts, experiment, experiment_id, Reader(service.environment()))


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    """The id of a finished run of the writer."""
    folder = tmp_path_factory.mktemp("trained")
    ended = place.run(folder, "writer", "trainer.train", *place.settings())
    assert ended.status == 0, ended.text
    (path,) = folder.glob("runs/*/outcome.json")
    return path.parent.name


@pytest.fixture(scope="module")
def without_role(senders):
    name, password = fresh(), "a-long-password"
    senders[ADMIN].post("users/create", username=name, password=password)
    return name, password


@pytest.fixture(autouse=True)
def _no_run_stays_open(place):
    yield
    query = {"experiment_ids": [place.experiment_id], "filter": "attributes.status = 'RUNNING'"}
    assert "runs" not in place.reader.post("api/2.0/mlflow/runs/search", **query)


def check_refusal(ended, *said):
    """The command has ended with status 1 and one error, which says all this."""
    assert ended.status == 1, ended.text
    assert checks.readable(ended) == []
    errors = re.split(r"^error: ", ended.text, flags=re.MULTILINE)[1:]
    assert len(errors) == 1, ended.text
    text = " ".join(errors[0].split())
    assert [one for one in said if one not in text] == [], text


def test_reader_does_not_train(place, tmp_path):
    ended = place.run(tmp_path, "reader", "trainer.train", *place.settings())

    check_refusal(ended, "403", "role writer", f"gives it to user {place.accounts['reader'][0][:15]}")


def test_writer_does_not_register_and_does_not_train_before(place, tmp_path):
    words = place.settings(register="true", registered_model=_MODEL)
    ended = place.run(tmp_path, "writer", "trainer.train", *words)

    check_refusal(ended, "403", _MODEL, "role promoter", "admin")
    (folder,) = tmp_path.glob("runs/*/events.jsonl")
    assert place.reader.run(folder.parent.name)["info"]["status"] == "FAILED"
    assert '"train/' not in folder.read_text()


@pytest.mark.parametrize("module", ["registry.promote", "registry.rollback"])
def test_writer_does_not_move_the_champion(place, trained, tmp_path, module):
    words = ["--run_id", trained] if module == "registry.promote" else ["--reason", "a test"]

    ended = place.run(tmp_path, "writer", module, *words, "--registered_model", _MODEL)

    check_refusal(ended, "403", _MODEL, "role promoter", "admin")
    (folder,) = tmp_path.glob("runs/*/events.jsonl")
    assert place.reader.run(folder.parent.name)["info"]["status"] == "FAILED"


def test_writer_does_not_promote_what_a_search_finds(place, tmp_path):
    ended = place.run(tmp_path, "writer", "tuning.tune", *place.search(promote="true", registered_model=_MODEL))

    check_refusal(ended, "403", _MODEL, "role promoter", "admin")
    assert not list(tmp_path.glob("runs/*/events.jsonl"))


def test_reader_does_not_search(place, tmp_path):
    check_refusal(place.run(tmp_path, "reader", "tuning.tune", *place.search()), "403", "role writer", "admin")


def test_account_without_a_role_reads_no_registry(place, without_role, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n1,w1 w2\n")
    model = ["--input", "in.csv", "--output", "out.csv", "--model", f"models:/{_MODEL}@champion"]

    check_refusal(place.run(tmp_path, without_role, "registry.predict", *model), "403", "role reader", "admin")
    history = place.run(tmp_path, without_role, "registry.history", "--registered_model", _MODEL)
    check_refusal(history, "403", "role reader", "admin")


@pytest.mark.parametrize("module", ["trainer.train", "tuning.tune", "registry.promote", "registry.history"])
def test_wrong_password_ends_a_command_at_its_start(place, tmp_path, module):
    words = {"trainer.train": place.settings(), "tuning.tune": place.search()}.get(module, [])
    name = place.accounts["promoter"][0]

    ended = place.run(tmp_path, (name, "another-password"), module, *words)

    check_refusal(ended, "401", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
    assert not list(tmp_path.glob("runs/*/events.jsonl"))


def test_trainings_whose_accounts_are_refused_meanwhile_are_delivered_later(place, service, senders, tmp_path):
    """Three at once: each lasts some seconds, in which it needs no core."""
    changes = {
        "password": (("401", "MLFLOW_TRACKING_PASSWORD"), partial(change_password, senders[ADMIN])),
        "deleted": (("401", "removed"), partial(delete_account, senders[ADMIN])),
        "reader": (("403", "role writer", "admin"), partial(change_role, service, before="writer", after="reader")),
    }
    started = {}
    for change in changes:
        account = make_accounts(service, fresh(), tmp_path / change / "passwords")["writer"]
        slow = {"variables": {slow_training.PAUSE: "0.4"}, "prepare": slow_training.slow_down}
        words = place.settings(log_steps=1, batch_size=4)
        started[change] = account[0], place.start(tmp_path / change, account, "trainer.train", *words, **slow)
    for change, (account, running) in started.items():
        wait_for_steps(tmp_path / change, running)
        changes[change][1](account)

    for change, (_, running) in started.items():
        check_refusal(running.wait(), *changes[change][0])
        (folder,) = (path.parent for path in tmp_path.glob(f"{change}/runs/*/events.jsonl"))
        assert (folder / "outcome.json").is_file()
        ended = place.run(tmp_path / change, "writer", "trainer.sync")
        assert ended.status == 0, ended.text
        assert compare(place.reader, [folder]).faults == []


def wait_for_steps(folder, running):
    until = time.monotonic() + _BEGIN_SECONDS
    while not any('"train/' in log.read_text() for log in folder.glob("runs/*/events.jsonl")):
        assert running.is_alive()
        assert time.monotonic() < until
        time.sleep(0.2)


def change_password(admin, name):
    body = {"username": name, "password": "a-new-long-password"}
    assert admin.send("PATCH", "api/2.0/mlflow/users/update-password", json=body).ok


def delete_account(admin, name):
    assert admin.send("DELETE", "api/2.0/mlflow/users/delete", json={"username": name}).ok
