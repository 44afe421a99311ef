"""Writes screenshots of MLflow's page with trained runs: `python -m tests.service.screenshots FOLDER`.

Without MLFLOW_TRACKING_URI, starts a service of its own, trains on the starter data, searches and promotes; with it,
shows the newest runs of that server, whose certificate stands beside MLFLOW_TRACKING_SERVER_CERT_PATH.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient
from PIL import Image

from tests.service.browser import comparison_place, open_browser, run_place
from tests.service.running import RunningService
from trainer.core import artifacts
from trainer.core.environment import child_environment

_SIZE = (1280, 800)
_COLORS = 128
_COMMANDS = (
    ("trainer.train", "epochs=2", "loss=bce"),
    ("registry.promote", "floor_macro_f1=0.01"),
    ("trainer.train", "epochs=4"),
    ("registry.promote", "min_gain=-0.05"),
    ("tuning.tune", "study=first", "trials=3", "workers=1", "losses=bce,asl", "epochs=1", "top_k=1", "seeds=1"),
    ("registry.promote",),
)
_DIGEST = re.compile(r"\([0-9a-f]{32}\)")
_FIGURE = f"artifacts/{artifacts.FIGURES}/per_label_f1.png"


def main():
    """Write one PNG for each place of `places`."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    if "MLFLOW_TRACKING_URI" in os.environ:
        shoot(os.environ, folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o711)  # as root, PostgreSQL has another user, who must get through to its data
        service = RunningService.start(Path(scratch) / "service")
        try:
            fill(service.environment(), Path(scratch) / "runs")
            shoot(service.environment(), folder)
        finally:
            service.close()


def fill(environment, output):
    """Train, search and promote on the starter data."""
    more = {"OPTUNA_STORAGE": f"sqlite:///{output}.db", "HF_HUB_OFFLINE": "1"}
    for module, *settings in _COMMANDS:
        arguments = [f"--{setting}" for setting in (*settings, f"output={output}")]
        subprocess.run(
            [sys.executable, "-m", module, *arguments], check=True, env=child_environment() | environment | more
        )


def shoot(environment, folder):
    """Write a screenshot of every place, with few colours."""
    os.environ.update({name: text for name, text in environment.items() if name.startswith("MLFLOW_")})
    with open_browser(environment, _SIZE) as browser:
        for name, place in places(MlflowClient()).items():
            browser.open()  # MLflow keeps the artifact that is shown when only the end of the address changes
            browser.open(place)
            if name == "dataset":
                browser.page.get_by_role("button").filter(has_text=_DIGEST).first.click()
                browser.settle()
            path = folder / f"{name}.png"
            browser.page.screenshot(path=path)
            Image.open(path).convert("RGB").quantize(_COLORS).save(path, optimize=True)
    for error in browser.errors:
        print(error, file=sys.stderr)


def places(client):
    """Place on MLflow's page by name of its screenshot."""
    experiment = client.get_experiment_by_name(artifacts.DEFAULT_EXPERIMENT).experiment_id
    runs = client.search_runs([experiment], order_by=["start_time DESC"])
    trained = [run for run in runs if "test/ece" in run.data.metrics and artifacts.TAG_STUDY not in run.data.tags]
    run = max(trained, key=lambda one: one.data.metrics["test/macro_f1"])
    commands = {one.data.tags[artifacts.TAG_COMMAND]: one for one in runs if artifacts.TAG_COMMAND in one.data.tags}
    search, promotion = commands["tune"], commands["promote"]
    model = run.outputs.model_outputs[0].model_id
    ledger = f"{artifacts.REGISTERED_MODEL}-ledger"
    return {
        "experiments": "#/experiments",
        "runs": f"#/experiments/{experiment}",
        "scores": f"#/experiments/{experiment}/runs?viewStateShareKey=scores",
        "charts": f"#/experiments/{experiment}/runs?compareRunsMode=CHART",
        "models": f"#/experiments/{experiment}/models",
        "overview": run_place(run),
        "dataset": run_place(run),
        "metrics": run_place(run, "model-metrics"),
        "system": run_place(run, "system-metrics"),
        "per_label": run_place(run, f"artifacts/{artifacts.PER_LABEL}"),
        "figure": run_place(run, _FIGURE),
        "report": run_place(run, f"artifacts/{artifacts.REPORT}"),
        "model_card": run_place(run, f"artifacts/{artifacts.MODEL_CARD_PAGE}"),
        "model": f"#/experiments/{experiment}/models/{model}",
        "compare": comparison_place(trained[:2]),
        "search": run_place(search),
        "trials": run_place(search, "artifacts/trials.json"),
        "promotion": run_place(promotion),
        "decision": run_place(promotion, f"artifacts/{artifacts.PROMOTION}"),
        "registered": f"#/models/{artifacts.REGISTERED_MODEL}",
        "version": f"#/models/{artifacts.REGISTERED_MODEL}/versions/1",
        "ledger": f"#/models/{ledger}",
        "ledger_entry": f"#/models/{ledger}/versions/1",
    }


if __name__ == "__main__":
    main()
