"""The commands of MLproject, through the real `mlflow run`."""

import mlflow
import numpy as np
import pandas
import pytest

pytestmark = [pytest.mark.project, pytest.mark.slow]

_PLAIN_WORDS = {
    "Thank you ever so much, you have helped me a lot.": "gratitude",
    "Congratulations, that is a fantastic achievement!": "admiration",
    "I am so sorry, I should never have said that.": "remorse",
    "What does this button do?": "curiosity",
    "lol that is hilarious": "amusement",
    "This makes me furious.": "anger",
    "I'm terrified of spiders.": "fear",
    "I love you more than I can say.": "love",
    "I can't wait for the trip tomorrow!": "excitement",
    "That is disgusting, I nearly threw up.": "disgust",
    "The meeting is at ten on Tuesday.": "neutral",
}


# MLflow 3.17 warns of a type hint of its own when mlflow.pyfunc is imported.
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_from_the_first_command_to_a_champion_and_back(mlflow_run, entry_point, tracking_uri, tmp_path):
    done, run = mlflow_run("--env-manager", "local", parameters={"loss": "combined"}, whole=True)

    assert done.returncode == 0, done.stderr
    assert run.info.status == "FINISHED"
    # Measured: 0.46 and 0.53, and 0.39 is the lower end of the interval; knowing nothing gives about 0.07.
    assert run.data.metrics["test/macro_f1"] > 0.35
    mlflow.set_tracking_uri(tracking_uri)
    answers = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(list(_PLAIN_WORDS))
    found = answers.select_dtypes("number").idxmax(axis=1)
    wrong = {text: best for (text, label), best in zip(_PLAIN_WORDS.items(), found, strict=True) if best != label}
    assert len(wrong) <= 2, wrong

    assert "promoted: version 1" in entry_point("promote")
    champion = mlflow.pyfunc.load_model("models:/emotions@champion").predict(list(_PLAIN_WORDS))
    pandas.testing.assert_frame_equal(champion, answers)

    entry_point("train", max_train_rows=200, epochs=1, bootstrap_resamples=100)
    client = mlflow.MlflowClient(tracking_uri)
    weak = client.search_runs(["0"], "params.max_train_rows = '200'")[0].info.run_id
    assert "refused: version 2" in entry_point("promote", run_id=weak)
    assert client.get_model_version_by_alias("emotions", "challenger").run_id == weak

    comments, scored = tmp_path / "comments.csv", tmp_path / "scored.parquet"
    pandas.DataFrame({"id": range(len(_PLAIN_WORDS)), "text": list(_PLAIN_WORDS)}).to_csv(comments, index=False)
    entry_point("predict", input=comments, output=scored)
    probabilities = pandas.read_parquet(scored)[[f"probability_{label}" for label in champion.columns[:-1]]]
    np.testing.assert_allclose(probabilities.to_numpy(), champion[champion.columns[:-1]].to_numpy(), atol=1e-6)

    assert "restored: version 2" in entry_point("rollback", version=2, reason="to see it")
    assert "restored: version 1" in entry_point("rollback", version=1)
    history = entry_point("history")
    for words in ("version 1 promoted", "version 2 refused", "to see it", "champion: version 1, before it version 2"):
        assert words in history


@pytest.fixture
def search(entry_point, tmp_path):
    """Run a small search; what it said."""
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {times: [0.5, 2], log: true}\n")
    small = {"epochs": 1, "max_train_rows": 100, "bootstrap_resamples": 100, "space": space}

    def call(**settings):
        return entry_point("tune", workers=1, pruner="none", **small | settings)

    return call


def test_a_search_ends_with_a_candidate(search, tracking_uri):
    """Two trials, a final, the winner, the winner on train and dev, and the gate, which it is too weak for."""
    said = search(trials=2, top_k=1, seeds=1, retrain_on_dev="true", promote="true")

    client = mlflow.MlflowClient(tracking_uri)
    runs = {run.info.run_name: run for run in client.search_runs(["0"])}
    (study_run,) = [run for run in runs.values() if run.data.tags.get("command") == "tune"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    last = runs["winner on train and dev"]
    for name in ("trial 0", "trial 1", "final 0", last.info.run_name):
        assert runs[name].data.tags["mlflow.parentRunId"] == study_run.info.run_id
    assert last.info.run_id == study_run.data.tags["tuning.winner"]
    assert "test/macro_f1" in last.data.metrics
    assert not any("test/macro_f1" in runs[name].data.metrics for name in ("trial 0", "trial 1"))
    assert f"promote -P run_id={last.info.run_id}" in said
    assert "refused: version 1" in said
    assert client.get_model_version_by_alias("emotions", "challenger").run_id == last.info.run_id
    mlflow.set_tracking_uri(tracking_uri)
    assert len(mlflow.load_table("trials.json", run_ids=[study_run.info.run_id])) == 2


def test_trials_of_a_search_may_take_two_processes_each(search, tracking_uri):
    search(trials=1, top_k=0, processes=2)

    (run,) = mlflow.MlflowClient(tracking_uri).search_runs(["0"], "attributes.run_name = 'trial 0'")
    assert run.info.status == "FINISHED"
    assert run.data.params["cfg.processes"] == "2"
    assert "dev/final_macro_f1" in run.data.metrics


def test_plain_command_uses_the_stand_in_for_conda(mlflow_run, stand_in):
    done, run = mlflow_run(parameters={"loss": "combined"}, environment={"MLFLOW_CONDA_HOME": str(stand_in)})

    assert done.returncode == 0, done.stderr
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.project.env"] == "conda"
    assert run.data.params["loss"] == "combined"
    assert 0 <= run.data.metrics["test/macro_f1"] <= 1
    assert done.stderr.count("environment already provided") == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"learning_rate": -1}, "learning_rate"),
        ({"learning_rat": 1}, "Did you mean `learning_rate`?"),
    ],
)
def test_bad_parameter_fails_the_run_and_says_why(mlflow_run, parameters, message):
    done, run = mlflow_run("--env-manager", "local", parameters=parameters)

    assert done.returncode != 0
    assert run.info.status == "FAILED"
    assert message in " ".join(done.stderr.split())  # the terminal's width breaks lines
    assert "Traceback" not in done.stderr


def test_stand_in_refuses_another_conda_yaml(mlflow_run, stand_in):
    (stand_in / "name").write_text("mlflow-of-an-older-conda-yaml\n")

    done, run = mlflow_run(environment={"MLFLOW_CONDA_HOME": str(stand_in)})

    assert done.returncode != 0
    assert run.info.status == "FAILED"
    assert "Run `make setup`" in done.stderr
