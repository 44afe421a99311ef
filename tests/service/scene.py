"""What tests of rights send requests about, as accounts of each role."""

import uuid
from dataclasses import dataclass
from typing import Any

import requests

from tests.service.running import RunningService

__all__ = ["Scene", "Sender", "fresh"]


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
