"""What people see on MLflow's page, in a browser, through TLS and login."""

import pytest
from mlflow import MlflowClient

from tests.service.browser import open_browser, run_place
from trainer.core import artifacts
from trainer.tracking.run import open_run

LABELS = ("grief", "joy")
NOTE = "On test: macro F1 0.512."


_MLMODEL = "flavors: {python_function: {loader_module: none}}\nmodel_uuid: m-0\nutc_time_created: '2026-01-01'\n"


@pytest.fixture
def run(service, tmp_path, monkeypatch):
    """A run with what a training logs, its model registered as `moods`."""
    for name, text in service.environment().items():
        monkeypatch.setenv(name, text)
    with open_run(tmp_path, name="moods-bce-1", parameters={"loss": "bce"}) as tracker:
        tracker.log_dataset("moods", "d" * 64, "test", "data/moods", {"rows": 7}, LABELS)
        for step in (10, 20):
            tracker.log_metrics({"train/loss": 1 / step}, step)
        tracker.log_metrics({"test/macro_f1": 0.512, "dev/final/macro_f1": 0.987}, 0)
        (tracker.folder / artifacts.REPORT).write_text("<h1>Report of moods</h1>")
        tracker.log_artifacts()
        tracker.set_tags({artifacts.TAG_NOTE: f"{NOTE}\n\n[report]({tracker.page}/artifacts/{artifacts.REPORT})"})
        model = tracker.folder / artifacts.MODEL
        model.mkdir()
        (model / "MLmodel").write_text(_MLMODEL)
        tracker.log_model(model, 20)
        assert tracker.register("moods")
    return MlflowClient().get_run(tracker.run_id)


def test_experiment_run_and_model_show_what_was_logged(service, run):
    with open_browser(service.environment()) as browser:
        experiment = f"#/experiments/{run.info.experiment_id}"
        assert "moods-bce-1" in browser.open(experiment)  # not MLflow's pages for language models
        assert "workflowType=machine_learning" in browser.page.url
        scores = browser.follow("runs by their scores")
        assert {"dev/final/macro_f1", "test/macro_f1", "0.512", "0.987"} <= set(scores.split())

        overview = browser.open(run_place(run))
        assert NOTE in overview
        assert "0.512" in overview
        browser.follow("report")
        browser.page.frame_locator("iframe").get_by_text("Report of moods").wait_for()

        registered = browser.open("#/models/moods")
        assert "moods@champion" in registered
        assert NOTE[:12] in registered
        assert NOTE in browser.open("#/models/moods/versions/1")
        assert browser.errors == []


def test_a_wrong_password_shows_nothing(service):
    with open_browser(service.environment(password="not the password")) as browser:
        assert browser.page.goto(service.url).status == 401


def test_the_assistant_of_mlflow_is_refused(service):
    path = "/ajax-api/3.0/mlflow/assistant"
    assert service.request("GET", f"{path}/config").ok  # the page asks for it
    for method, name in (("POST", "message"), ("PUT", "config"), ("POST", "skills/install")):
        assert service.request(method, f"{path}/{name}", json={}).status_code == 403
