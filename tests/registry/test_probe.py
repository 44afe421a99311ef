"""The process that tries a model: what it finds, and that nothing a model does takes the promotion along."""

import pytest
from registry_parts import ROWS, TEMPERATURE, make_run

from registry.config import ProbeConfig
from registry.promotion import model_check
from trainer.core import artifacts

_PICKLED = """
import mlflow

class Pickled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str], params=None):
        return model_input
"""


@pytest.fixture
def runs(tmp_path, tracking_uri, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def try_run(runs, run_id, **settings):
    config = ProbeConfig(**settings)
    predictions = runs / run_id / artifacts.predictions_file("test")
    found = model_check.probe(f"runs:/{run_id}/model", predictions, TEMPERATURE, config)
    return found, [rule.name for rule in model_check.rules(found, config) if not rule.passed]


@pytest.mark.slow
def test_a_sound_model_keeps_every_rule(runs):
    found, broken = try_run(runs, make_run(runs, 0.9))

    assert broken == []
    assert found.rows == ROWS
    assert found.score_difference < 1e-6
    assert 0 < found.latency_ms_p50 <= found.latency_ms_p95
    assert 0 < found.size_mb < 1


@pytest.mark.slow
def test_a_model_that_scores_otherwise_is_found_out(runs):
    run_id = make_run(runs, 0.9, wrong_answers=2e-4)
    found, broken = try_run(runs, run_id, check_rows=10)

    assert broken == ["scores as its run did"]
    assert found.score_difference == pytest.approx(2e-4, rel=1e-3)
    assert found.rows == 10


@pytest.mark.slow
def test_what_breaks_in_the_process_is_told_and_no_more(runs):
    run_id = make_run(runs, 0.9)
    (runs / run_id / artifacts.predictions_file("test")).write_text("no parquet")
    found, broken = try_run(runs, run_id)

    assert broken == ["loads"]
    assert "its process ended with status 1" in found
    assert "predictions must be a file" in found


@pytest.mark.slow
def test_a_model_that_wants_to_unpickle_is_refused(runs, tmp_path):
    import mlflow.pyfunc

    run_id = make_run(runs, 0.9)
    scope = {"__name__": "__main__"}
    exec(_PICKLED, scope)
    mlflow.pyfunc.save_model(tmp_path / "pickled", python_model=scope["Pickled"](), pip_requirements=["mlflow"])
    config, predictions = ProbeConfig(), runs / run_id / artifacts.predictions_file("test")
    found = model_check.probe(str(tmp_path / "pickled"), predictions, TEMPERATURE, config)

    assert "pickle" in found.lower()
    assert not model_check.rules(found, config)[0].passed


def test_a_model_that_never_answers_is_given_up(runs, monkeypatch):
    monkeypatch.setattr(model_check, "_LIMIT_SECONDS", 0.2)
    found = model_check.probe("runs:/nothing/model", runs / "none.parquet", 1.0, ProbeConfig())

    assert found == "it had not answered after 0.2 seconds"
