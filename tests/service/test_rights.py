"""What accounts of each role may do, by the API of clients and by that of MLflow's pages."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.service.account_helpers import make_accounts
from tests.service.running import RunningService
from trainer.service.roles import ADMIN, ROLES

ALL = frozenset({ADMIN, *ROLES})
WRITERS = frozenset({ADMIN, "writer", "promoter"})
REGISTRARS = frozenset({ADMIN, "promoter"})
ADMINS = frozenset({ADMIN})
REFUSED = 403
APIS = ("api", "ajax-api")


def fresh() -> str:
    """Return a name that no other call has returned."""
    return f"rights-{uuid.uuid4().hex}"


class Sender:
    """Sends requests as one account."""

    def __init__(self, service: RunningService, user: str, password: str) -> None:
        self._session = requests.Session()
        self._session.trust_env = False  # its certificates would come before these
        self._session.auth, self._session.verify = (user, password), str(service.ca_file)
        self._url = service.url

    def send(self, method: str, path: str, **content: Any) -> requests.Response:
        """Return the answer to a request."""
        return self._session.request(method, f"{self._url}/{path}", timeout=60, **content)

    def post(self, path: str, **body: Any) -> Any:
        """Return the content of the answer to a POST that must succeed."""
        answer = self.send("POST", f"api/2.0/mlflow/{path}", json=body)
        assert answer.ok, answer.text
        return answer.json()


@dataclass(frozen=True)
class Scene:
    """What is on the server before each operation, made by its admin."""

    admin: Sender
    experiment: str
    run: str
    registered_run: str
    model: str
    registered_model: str
    extra_model: str
    """A model that becomes registered in the course of the operations."""
    name: str
    """A registered model with version 1, from `registered_model`."""

    @classmethod
    def make(cls, admin: Sender) -> "Scene":
        """Make an experiment with two runs and two models, one of them registered."""
        experiment = admin.post("experiments/create", name=fresh())["experiment_id"]
        runs = [admin.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"] for _ in range(2)]
        models = [admin.post("logged-models", experiment_id=experiment, source_run_id=run) for run in (*runs, None)]
        ids = [model["model"]["info"]["model_id"] for model in models]
        name = fresh()
        admin.post("registered-models/create", name=name)
        admin.post("model-versions/create", name=name, source=f"models:/{ids[1]}", model_id=ids[1], run_id=runs[1])
        scene = cls(admin, experiment, runs[0], runs[1], *ids, name)
        for folder in (f"{runs[0]}/artifacts", f"{runs[1]}/artifacts", f"models/{ids[0]}/artifacts"):
            assert admin.send("PUT", scene.artifact(folder, "api"), data=b"1").ok
        return scene

    def artifact(self, folder: str, api: str) -> str:
        """Return the path of an artifact through the server's proxy."""
        return f"{api}/2.0/mlflow-artifacts/artifacts/{self.experiment}/{folder}/file.txt"

    def new_run(self) -> str:
        """Return the id of one more run."""
        made: str = self.admin.post("runs/create", experiment_id=self.experiment)["run"]["info"]["run_id"]
        return made

    def new_model(self) -> str:
        """Return the id of one more logged model."""
        made: str = self.admin.post("logged-models", experiment_id=self.experiment)["model"]["info"]["model_id"]
        return made

    def new_version(self) -> dict[str, str]:
        """Return name and version of one more registered version."""
        made = self.admin.post(
            "model-versions/create", name=self.name, source=f"models:/{self.extra_model}", model_id=self.extra_model
        )
        return {"name": self.name, "version": made["model_version"]["version"]}


Send = Callable[[Scene, Sender, str], requests.Response]


def _call(method: str, path: str, body: Callable[[Scene], Mapping[str, Any]]) -> Send:
    def send(scene: Scene, sender: Sender, api: str) -> requests.Response:
        content = {"params" if method == "GET" else "json": body(scene)}
        return sender.send(method, f"{api}/2.0/mlflow/{path}", **content)

    return send


def _file(method: str, folder: Callable[[Scene], str]) -> Send:
    def send(scene: Scene, sender: Sender, api: str) -> requests.Response:
        return sender.send(method, scene.artifact(folder(scene), api), data=b"2" if method == "PUT" else None)

    return send


def _path(method: str, path: Callable[[Scene], str], version: str = "2.0", **body: Any) -> Send:
    def send(scene: Scene, sender: Sender, api: str) -> requests.Response:
        return sender.send(method, f"{api}/{version}/mlflow/{path(scene)}", json=body or None)

    return send


def _logged_metric(scene: Scene, run: str) -> dict[str, Any]:
    return {"run_id": run, "metrics": [{"key": "a", "value": 1.0, "timestamp": 1, "step": 0}]}


def _new_account(scene: Scene) -> str:
    made: str = scene.admin.post("users/create", username=fresh(), password="a-long-password")["user"]["username"]
    return made


OPERATIONS: dict[str, tuple[frozenset[str], Send]] = {
    # Experiments
    "list experiments": (ALL, _call("GET", "experiments/search", lambda _: {"max_results": 1})),
    "create an experiment": (WRITERS, _call("POST", "experiments/create", lambda _: {"name": fresh()})),
    "create an experiment with its own artifact location": (
        ADMINS,
        _call("POST", "experiments/create", lambda _: {"name": fresh(), "artifact_location": "mlflow-artifacts:/x"}),
    ),
    "set a tag of another's experiment": (
        WRITERS,
        _call(
            "POST",
            "experiments/set-experiment-tag",
            lambda s: {"experiment_id": s.experiment, "key": "a", "value": "b"},
        ),
    ),
    "delete another's experiment": (
        ADMINS,
        _call(
            "POST",
            "experiments/delete",
            lambda s: s.admin.post("experiments/create", name=fresh()),
        ),
    ),
    # Runs
    "read a run": (ALL, _call("GET", "runs/get", lambda s: {"run_id": s.run})),
    "search runs": (ALL, _call("POST", "runs/search", lambda s: {"experiment_ids": [s.experiment]})),
    "create a run in another's experiment": (
        WRITERS,
        _call("POST", "runs/create", lambda s: {"experiment_id": s.experiment}),
    ),
    "log metrics to another's run": (WRITERS, _call("POST", "runs/log-batch", lambda s: _logged_metric(s, s.run))),
    "log metrics to a registered run": (
        REGISTRARS,
        _call("POST", "runs/log-batch", lambda s: _logged_metric(s, s.registered_run)),
    ),
    "end another's run": (WRITERS, _call("POST", "runs/update", lambda s: {"run_id": s.run, "status": "FINISHED"})),
    "delete another's run": (WRITERS, _call("POST", "runs/delete", lambda s: {"run_id": s.new_run()})),
    "restore another's run": (WRITERS, _call("POST", "runs/restore", lambda s: {"run_id": s.run})),
    "restore a registered run": (REGISTRARS, _call("POST", "runs/restore", lambda s: {"run_id": s.registered_run})),
    # Artifacts, also directly
    "list artifacts": (ALL, _call("GET", "artifacts/list", lambda s: {"run_id": s.run})),
    "download an artifact": (ALL, _file("GET", lambda s: f"{s.run}/artifacts")),
    "upload to another's run": (WRITERS, _file("PUT", lambda s: f"{s.run}/artifacts")),
    "upload to a registered run": (REGISTRARS, _file("PUT", lambda s: f"{s.registered_run}/artifacts")),
    "upload to another's model": (WRITERS, _file("PUT", lambda s: f"models/{s.model}/artifacts")),
    "upload to a registered model": (REGISTRARS, _file("PUT", lambda s: f"models/{s.registered_model}/artifacts")),
    "upload to a registered model, encoded path": (
        REGISTRARS,
        _file("PUT", lambda s: f"models/%256d{s.registered_model[1:]}/artifacts"),
    ),
    "upload to a registered model, empty segments": (
        REGISTRARS,
        _file("PUT", lambda s: f"models//{s.registered_model}/./artifacts"),
    ),
    "delete an artifact": (ADMINS, _file("DELETE", lambda s: f"{s.new_run()}/artifacts")),
    # Logged models
    "read a logged model": (ALL, _path("GET", lambda s: f"logged-models/{s.model}")),
    "create a logged model": (WRITERS, _call("POST", "logged-models", lambda s: {"experiment_id": s.experiment})),
    "change a logged model": (
        WRITERS,
        _path("PATCH", lambda s: f"logged-models/{s.model}/tags", tags=[{"key": "a", "value": "b"}]),
    ),
    "change a registered logged model": (
        REGISTRARS,
        _path("PATCH", lambda s: f"logged-models/{s.registered_model}/tags", tags=[{"key": "a", "value": "b"}]),
    ),
    "delete another's logged model": (WRITERS, _path("DELETE", lambda s: f"logged-models/{s.new_model()}")),
    "end a registered logged model": (
        REGISTRARS,
        _path("PATCH", lambda s: f"logged-models/{s.registered_model}", status="LOGGED_MODEL_READY"),
    ),
    # Registry
    "list registered models": (ALL, _call("GET", "registered-models/search", lambda _: {"max_results": 1})),
    "read a registered model": (ALL, _call("GET", "registered-models/get", lambda s: {"name": s.name})),
    "read a version": (ALL, _call("GET", "model-versions/get", lambda s: {"name": s.name, "version": "1"})),
    "create a registered model": (REGISTRARS, _call("POST", "registered-models/create", lambda _: {"name": fresh()})),
    "create a prompt": (
        REGISTRARS,
        _call(
            "POST",
            "registered-models/create",
            lambda _: {"name": fresh(), "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]},
        ),
    ),
    "create a version": (
        REGISTRARS,
        _call(
            "POST",
            "model-versions/create",
            lambda s: {"name": s.name, "source": f"models:/{s.extra_model}", "model_id": s.extra_model},
        ),
    ),
    "set an alias": (
        REGISTRARS,
        _call("POST", "registered-models/alias", lambda s: {"name": s.name, "alias": "champion", "version": "1"}),
    ),
    "delete an alias": (
        REGISTRARS,
        _call("DELETE", "registered-models/alias", lambda s: {"name": s.name, "alias": "challenger"}),
    ),
    "set a tag of a registered model": (
        REGISTRARS,
        _call("POST", "registered-models/set-tag", lambda s: {"name": s.name, "key": "a", "value": "b"}),
    ),
    "set a tag of a version": (
        REGISTRARS,
        _call("POST", "model-versions/set-tag", lambda s: {"name": s.name, "version": "1", "key": "a", "value": "b"}),
    ),
    "move a version to a stage": (
        REGISTRARS,
        _call(
            "POST",
            "model-versions/transition-stage",
            lambda s: {"name": s.name, "version": "1", "stage": "Staging", "archive_existing_versions": False},
        ),
    ),
    "delete a version": (REGISTRARS, _call("DELETE", "model-versions/delete", lambda s: s.new_version())),
    "rename a registered model": (
        REGISTRARS,
        _call(
            "POST",
            "registered-models/rename",
            lambda s: (
                {"name": s.admin.post("registered-models/create", name=fresh())["registered_model"]["name"]}
                | {"new_name": fresh()}
            ),
        ),
    ),
    # Others
    "create a webhook": (
        ADMINS,
        _call(
            "POST",
            "webhooks",
            lambda _: {
                "name": fresh(),
                "url": "https://1.1.1.1/",
                "events": [{"entity": "REGISTERED_MODEL", "action": "CREATED"}],
            },
        ),
    ),
    "list webhooks": (ADMINS, _call("GET", "webhooks", lambda _: {})),
    "search traces": (ALL, _path("GET", lambda s: f"traces?experiment_ids={s.experiment}")),
    "create a data set": (
        WRITERS,
        lambda scene, sender, api: sender.send(
            "POST",
            f"{api}/3.0/mlflow/datasets/create",
            json={"name": fresh(), "experiment_ids": [scene.experiment]},
        ),
    ),
    "create a secret of a gateway": (
        ADMINS,
        lambda _, sender, api: sender.send(
            "POST",
            f"{api}/3.0/mlflow/gateway/secrets/create",
            json={"secret_name": fresh(), "secret_value": {"api_key": "x"}, "provider": "openai"},
        ),
    ),
    # Accounts
    "list names and roles of accounts": (ALL, _call("GET", "users/list", lambda _: {})),
    "create an account": (
        ADMINS,
        _call("POST", "users/create", lambda _: {"username": fresh(), "password": "a-long-password"}),
    ),
    "become an admin": (
        ADMINS,
        _call("PATCH", "users/update-admin", lambda s: {"username": _new_account(s), "is_admin": True}),
    ),
    "change another's password": (
        ADMINS,
        _call(
            "PATCH",
            "users/update-password",
            lambda s: {
                "username": s.admin.post("users/create", username=fresh(), password="a-long-password")["user"][
                    "username"
                ],
                "password": "a-longer-password",
            },
        ),
    ),
    "delete an account": (
        ADMINS,
        _call(
            "DELETE",
            "users/delete",
            lambda s: {
                "username": s.admin.post("users/create", username=fresh(), password="a-long-password")["user"][
                    "username"
                ]
            },
        ),
    ),
    "grant a permission": (
        ADMINS,
        lambda scene, sender, api: sender.send(
            "POST",
            f"{api}/3.0/mlflow/users/permissions/grant",
            json={
                "username": _new_account(scene),
                "resource_type": "experiment",
                "resource_id": scene.experiment,
                "permission": "READ",
            },
        ),
    ),
}


@pytest.fixture(scope="module")
def senders(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sender]:
    """An account of each role."""
    accounts = make_accounts(service, fresh(), tmp_path_factory.mktemp("passwords"))
    return {role: Sender(service, *account) for role, account in accounts.items()}


@pytest.fixture(scope="module")
def scene(senders: dict[str, Sender]) -> Scene:
    """What the operations are about."""
    return Scene.make(senders[ADMIN])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_is_allowed_to_these_roles_alone(operation: str, senders: dict[str, Sender], scene: Scene) -> None:
    expected, send = OPERATIONS[operation]
    for api in APIS:
        answers = {role: send(scene, sender, api) for role, sender in senders.items()}
        failures = {role: answer.text for role, answer in answers.items() if answer.status_code not in (200, REFUSED)}
        assert not failures
        assert {role for role, answer in answers.items() if answer.ok} == expected
