"""MLflow's own evaluation of a trained model, by the code of the how-to page, has the score of the run."""

import re
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/mlflow-evaluate.md"


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")  # of MLflow's own code
def test_the_code_of_the_page_gives_the_score_of_the_run(finished, tmp_path, monkeypatch):
    import mlflow

    shutil.copy(finished.uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")  # it logs a run
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {}
    exec(code.replace("RUN_ID", finished.run.info.run_id), names)

    expected = finished.run.data.metrics["test/macro_f1"]
    assert 0 < expected < 1
    assert names["result"].metrics == {"macro_f1": pytest.approx(expected, abs=1e-12)}

    data = names["data"].assign(
        predicted=mlflow.pyfunc.load_model(finished.folder / "model").predict(names["data"])["labels"]
    )
    with mlflow.start_run():
        again = mlflow.models.evaluate(
            None,
            data,
            targets="truth",
            predictions="predicted",
            extra_metrics=[mlflow.models.make_metric(eval_fn=names["macro_f1"], greater_is_better=True)],
        )
    assert again.metrics == names["result"].metrics
