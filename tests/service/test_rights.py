"""What accounts of each role may do, by the API of clients and by that of MLflow's pages."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.scene import Scene, Sender, fresh
from trainer.service.accounts.roles import ADMIN, ROLES

ALL = frozenset({ADMIN, *ROLES})
WRITERS = frozenset({ADMIN, "writer", "promoter"})
REGISTRARS = frozenset({ADMIN, "promoter"})
ADMINS = frozenset({ADMIN})
REFUSED = 403
APIS = ("api", "ajax-api")


Send = Callable[[Scene, Sender, str], requests.Response]


def _call(method: str, path: str | Callable[[Scene], str], body: Callable[[Scene], Mapping[str, Any]]) -> Send:
    def send(scene: Scene, sender: Sender, api: str) -> requests.Response:
        content = {"params" if method == "GET" else "json": body(scene)}
        return sender.send(method, f"{api}/2.0/mlflow/{path if isinstance(path, str) else path(scene)}", **content)

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


def _ended(model: str) -> dict[str, str]:
    return {"model_id": model, "status": "LOGGED_MODEL_READY"}


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
    "end another's logged model": (
        WRITERS,
        _call("PATCH", lambda s: f"logged-models/{s.model}", lambda s: _ended(s.model)),
    ),
    "end a registered logged model": (
        REGISTRARS,
        _call("PATCH", lambda s: f"logged-models/{s.registered_model}", lambda s: _ended(s.registered_model)),
    ),
    "end a registered logged model, another in the path": (
        REGISTRARS,
        _call("PATCH", lambda s: f"logged-models/{s.model}", lambda s: _ended(s.registered_model)),
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


LINES = {
    "list and read": [
        *("list experiments", "read a run", "search runs", "list artifacts", "download an artifact"),
        *(
            "read a logged model",
            "list registered models",
            "read a registered model",
            "read a version",
            "search traces",
        ),
    ],
    "create experiments": [
        *("create an experiment", "set a tag of another's experiment", "create a run in another's experiment"),
        *("create a logged model", "create a data set"),
    ],
    "log to": [
        *("log metrics to another's run", "end another's run", "delete another's run", "restore another's run"),
        *(
            "upload to another's run",
            "upload to another's model",
            "change a logged model",
            "end another's logged model",
        ),
        "delete another's logged model",
    ],
    "change": [
        *("log metrics to a registered run", "restore a registered run", "upload to a registered run"),
        *("upload to a registered model", "upload to a registered model, encoded path"),
        *("upload to a registered model, empty segments", "change a registered logged model"),
        *("end a registered logged model", "end a registered logged model, another in the path"),
    ],
    "create registered models": [
        *("create a registered model", "create a prompt", "create a version", "set a tag of a registered model"),
        *("set a tag of a version", "move a version to a stage", "delete a version", "rename a registered model"),
    ],
    "set and remove aliases": ["set an alias", "delete an alias"],
    "delete experiments": [
        *("delete another's experiment", "delete an artifact", "create an experiment with its own artifact location"),
    ],
    "webhooks": ["create a webhook", "list webhooks", "create a secret of a gateway"],
    "list names": ["list names and roles of accounts"],
    "create, change": [
        *("create an account", "become an admin", "change another's password", "delete an account"),
        "grant a permission",
    ],
}
"""Beginning of a line in the documented table → the operations that it is about."""


def test_documented_table_is_what_the_operations_expect(root: Path):
    page = (root / "docs/how-to/service-accounts.md").read_text()
    head, *lines = re.findall(r"^\| (.+) \|$", page.partition("## What each role may do")[2], re.MULTILINE)
    columns = [column.split(", ") for column in head.split(" | ")[1:]]
    documented: dict[str, set[str]] = {
        line.partition(" | ")[0]: {
            role
            for roles, answer in zip(columns, line.split(" | ")[1:], strict=True)
            for role in roles
            if answer == "yes"
        }
        for line in lines
    }

    assert {role for roles in columns for role in roles} == ALL
    assert sorted(name for names in LINES.values() for name in names) == sorted(OPERATIONS)
    for (said, roles), (beginning, names) in zip(documented.items(), LINES.items(), strict=True):
        assert said.startswith(beginning)
        assert {name: OPERATIONS[name][0] for name in names} == dict.fromkeys(names, roles)


def test_the_creator_of_an_experiment_cannot_delete_it(senders: dict[str, Sender]) -> None:
    made = senders["writer"].post("experiments/create", name=fresh())

    assert senders["writer"].send("POST", "api/2.0/mlflow/experiments/delete", json=made).status_code == REFUSED


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_is_allowed_to_these_roles_alone(operation: str, senders: dict[str, Sender], scene: Scene) -> None:
    expected, send = OPERATIONS[operation]
    for api in APIS:
        answers = {role: send(scene, sender, api) for role, sender in senders.items()}
        failures = {role: answer.text for role, answer in answers.items() if answer.status_code not in (200, REFUSED)}
        assert not failures
        assert {role for role, answer in answers.items() if answer.ok} == expected
