"""The commands of MLproject, through the real `mlflow run`."""

import pytest

pytestmark = [pytest.mark.project, pytest.mark.slow]


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
