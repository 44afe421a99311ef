"""The commands of MLproject, through the real `mlflow run`."""

import mlflow
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
def test_the_first_command_ends_with_a_model_whose_answers_make_sense(mlflow_run, tracking_uri):
    done, run = mlflow_run("--env-manager", "local", parameters={"loss": "combined"}, whole=True)

    assert done.returncode == 0, done.stderr
    # Measured: 0.46 and 0.53, and 0.39 is the lower end of the interval; knowing nothing gives about 0.07.
    assert run.data.metrics["test/macro_f1"] > 0.35
    mlflow.set_tracking_uri(tracking_uri)
    answers = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(list(_PLAIN_WORDS))
    found = answers.select_dtypes("number").idxmax(axis=1)
    wrong = {text: best for (text, label), best in zip(_PLAIN_WORDS.items(), found, strict=True) if best != label}
    assert len(wrong) <= 2, wrong


def test_plain_command_uses_the_stand_in_for_conda(mlflow_run, stand_in):
    done, run = mlflow_run(parameters={"loss": "combined"}, environment={"MLFLOW_CONDA_HOME": str(stand_in)})

    assert done.returncode == 0, done.stderr
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.project.env"] == "conda"
    assert run.data.params["loss"] == "combined"
    assert 0 <= run.data.metrics["test/macro_f1"] <= 1
    assert done.stderr.count("environment already provided") == 1


def test_local_environment_manager_trains_too(mlflow_run):
    done, run = mlflow_run("--env-manager", "local")

    assert done.returncode == 0, done.stderr
    assert run.info.status == "FINISHED"
    assert "test/macro_f1" in run.data.metrics


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
