"""The leaderboard of an experiment with runs of every kind, made without training."""

import contextlib
import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from trainer.core import artifacts
from trainer.core.text_files import write_json
from trainer.evaluation.evaluation import evaluate_dev
from trainer.evaluation.resampling import Resampling
from trainer.runs import results
from trainer.runs.results import Predictions
from tuning import leaderboard
from tuning.ranking.scores import rank_runs

LABELS = ("anger", "grief", "joy")
SCORE, SEED = artifacts.final_metric("dev/macro_f1"), 7


def make_files(folder, quality, seed=1, labels=LABELS, num_examples=150, copies=1):
    """Write what a run leaves of dev; return its score. copies: of each example, as a group."""
    rng = np.random.default_rng(0)
    truth = (rng.random((num_examples, len(LABELS))) < 0.3).astype(np.float32)
    wrong = np.random.default_rng(seed).random(truth.shape) > quality
    noise = np.random.default_rng(seed + 1).normal(scale=0.1, size=truth.shape)
    taken = np.repeat(np.arange(num_examples), copies)
    names = tuple(map(str, range(len(taken))))
    dev = Predictions(
        scores=(2 * np.where(wrong, 1 - truth, truth) - 1 + noise).astype(np.float32)[taken],
        labels=truth[taken],
        observed=np.ones((len(taken), len(LABELS)), dtype=bool),
        example_ids=names,
        texts=names,
        label_names=labels,
        columns={"dialogue": tuple(map(str, taken))} if copies > 1 else {},
        group_column="dialogue" if copies > 1 else "",
    )
    evaluation = evaluate_dev(dev, calibration="temperature", policy="global", folds=5, seed=SEED)
    folder.mkdir(parents=True)
    results.write_tables(folder, evaluation, None)
    results.write_predictions(folder, "dev", dev)
    write_json(folder / artifacts.CONFIG, {"threshold_folds": 5, "seed": SEED})
    return evaluation.dev["macro_f1"]


class Store:
    """An experiment and its runs."""

    def __init__(self, folder):
        from mlflow import MlflowClient

        self.uri, self.output = f"sqlite:///{folder}/mlflow.db", folder / "runs"
        self.client = MlflowClient(self.uri)
        self.experiment = self.client.create_experiment("moods")
        self.ids = {}

    def add(self, name, score=None, *, status="FINISHED", digest="d" * 64, data="moods", files=None, **tags):
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        run = self.client.create_run(self.experiment, run_name=name, tags={artifacts.TAG_PRESET: "starter"} | tags)
        run_id = self.ids[name] = run.info.run_id
        if files:
            score = make_files(self.output / run_id, *files)
        for role, text in (("train", "t"), ("dev", digest), ("test", "e")):
            self.client.set_tag(run_id, f"{artifacts.TAG_DATA_DIGEST}.{role}", text)
        columns = [{"type": "double", "name": label if data == "moods" else f"{label}!"} for label in LABELS]
        schema, profile = json.dumps({"mlflow_colspec": columns}), json.dumps({"rows": 150})
        dev = Dataset(data, digest[:8], "local", "{}", schema, profile)
        self.client.log_inputs(run_id, [DatasetInput(dev, [InputTag("mlflow.data.context", "dev")])])
        values = {} if score is None else {SCORE: score, "test/macro_f1": 1 - score}
        params = {"cfg.loss": "combined", "cfg.ratio": "0.70", "cfg.seed": str(SEED), "cfg.epochs": str(len(self.ids))}
        self.client.log_batch(
            run_id,
            [Metric(key, value, 0, 0) for key, value in values.items()],
            [Param(key, value) for key, value in params.items()],
        )
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return run_id

    def board(self, *arguments, experiment="moods", output=None):
        """Run the command; its status, texts and files."""
        out, err = io.StringIO(), io.StringIO()
        words = ["--experiment", experiment, "--output", str(output or self.output), *arguments]
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            status = leaderboard.main([*words, "--bootstrap_resamples", "200"])
        made = sorted((output or self.output).glob("*/leaderboard.json"), key=lambda path: path.stat().st_mtime)
        content = json.loads(made[-1].read_text()) if made else None
        page = (made[-1].parent / "leaderboard.html").read_text() if made else None
        return SimpleNamespace(
            status=status, text=out.getvalue(), error=" ".join(err.getvalue().split()), content=content, page=page
        )


@pytest.fixture(scope="module")
def store(tmp_path_factory, _migrated_store):
    folder = tmp_path_factory.mktemp("board")
    shutil.copy(_migrated_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        made = Store(folder)
        best = made.add("best", files=(0.95,))
        made.add("like <best>", files=(0.949, 2))
        made.add("bad", files=(0.7, 3))
        made.add("lost", 0.5)
        changed = made.add("changed", files=(0.9, 4))
        made.client.log_metric(changed, SCORE, 0.4)
        made.add("renamed", files=(0.8, 5, LABELS[::-1]))
        made.add("other data", 0.99, digest="f" * 64)
        made.add("other labels", 0.98, data="other moods")
        made.add("pruned", 0.9, **{artifacts.TAG_TRIAL_STATE: "pruned"})
        fold = made.add("fold 1 of 5", 0.96)
        made.client.log_param(fold, "cfg.fold", 1)
        made.add("failed", status="FAILED")
        made.add("killed", 0.9, status="KILLED")
        made.add("running", status="RUNNING")
        made.add("on dev too")
        made.add("a search", 0.97, **{artifacts.TAG_COMMAND: "tune"})
        made.client.create_registered_model("emotions")
        made.client.create_model_version("emotions", "runs:/x/model", best)
        made.client.set_registered_model_alias("emotions", "champion", "1")
        yield made


@pytest.fixture(scope="module")
def board(store):
    return store.board()


def test_runs_are_ranked_on_dev_within_their_data_and_labels(board):
    assert board.status == 0, board.error
    ranked = [[run["run_name"] for run in group["runs"]] for group in board.content["groups"]]
    first, *others = ranked
    assert sorted(first[:2]) == ["best", "like <best>"]
    assert first[2:] == ["renamed", "bad", "lost", "changed"]
    assert sorted(others) == [["other data"], ["other labels"]]
    scores = [run["dev"] for run in board.content["groups"][0]["runs"]]
    assert scores == sorted(scores, reverse=True)
    assert "3 different sets" in board.error


def test_runs_of_other_kinds_are_counted(board):
    expected = {"pruned": 1, "failed or stopped": 2, "running": 1, "without a score on dev": 1, "of one fold": 1}
    assert board.content["not_listed"] == expected


def test_intervals_contain_the_score_and_are_missing_with_a_reason(board):
    rows = {run["run_name"]: run for run in board.content["groups"][0]["runs"]}
    for name in ("best", "like <best>", "bad"):
        assert rows[name]["dev_low"] < rows[name]["dev"] < rows[name]["dev_high"]
        assert rows[name]["no_interval"] is None
    for name, reason in (("lost", "labels.json"), ("changed", "instead of 0.4000"), ("renamed", "other labels")):
        assert (rows[name]["dev_low"], rows[name]["dev_high"]) == (None, None)
        assert reason in rows[name]["no_interval"]
    assert "3 of 6 runs" in board.text


def test_only_runs_that_differ_from_the_first_for_sure_are_not_tied(board):
    ties = {run["run_name"]: run["tied_with_first"] for run in board.content["groups"][0]["runs"]}
    assert [ties[name] for name in ("bad", "lost", "changed", "renamed")] == [False, None, None, None]
    assert sorted([ties["best"], ties["like <best>"]], key=str) == [None, True]
    assert "2 =" in board.text


def test_a_row_has_loss_seed_version_and_the_settings_that_differ(store, board):
    rows = {run["run_name"]: run for run in board.content["groups"][0]["runs"]}
    assert (rows["best"]["loss"], rows["best"]["seed"]) == ("combined:0.7", SEED)
    assert rows["best"]["versions"] == ["emotions 1 (champion)"]
    assert rows["bad"]["versions"] == []
    assert board.content["groups"][0]["runs"][0]["settings"] == {}
    assert rows["bad"]["settings"] == {"epochs": "3"}
    assert rows["lost"]["test"] == 0.5
    assert store.ids["best"] in board.text


def test_the_page_escapes_names_and_asks_for_nothing_outside(board):
    assert "like &lt;best&gt;" in board.page
    assert "default-src 'none'" in board.page


def test_its_own_run_has_the_files_and_is_not_listed(store, board):
    (run,) = store.client.search_runs([store.experiment], f"tags.{artifacts.TAG_COMMAND} = 'leaderboard'")[-1:]
    assert {file.path for file in store.client.list_artifacts(run.info.run_id)} == {
        "leaderboard.json",
        "leaderboard.html",
    }
    assert "best" in run.data.tags[artifacts.TAG_NOTE]


def test_only_the_best_runs_are_downloaded_and_only_once(store, tmp_path, monkeypatch):
    for file in ("best", "like <best>"):
        store.client.log_artifacts(store.ids[file], str(store.output / store.ids[file]))
    asked = []
    download = type(store.client).download_artifacts

    def counted(client, run_id, *rest):
        asked.append(run_id)
        return download(client, run_id, *rest)

    monkeypatch.setattr(type(store.client), "download_artifacts", counted)
    for _ in range(2):
        board = store.board("--top", "2", output=tmp_path)
    group = board.content["groups"][0]
    assert [run["dev_low"] is None for run in group["runs"]] == [False, False]
    assert group["num_runs"] == 6
    assert "4 more below" in board.text
    assert set(asked) - {store.ids["other data"], store.ids["other labels"]} == {
        store.ids["best"],
        store.ids["like <best>"],
    }
    assert asked.count(store.ids["best"]) == 5  # files


def test_average_precision_has_no_interval(store, tmp_path):
    store.client.log_metric(store.ids["best"], artifacts.final_metric("dev/macro_ap"), 0.6)
    (group,) = store.board("--metric", "macro_ap", output=tmp_path).content["groups"]
    assert [(run["run_name"], run["dev"], run["dev_low"]) for run in group["runs"]] == [("best", 0.6, None)]


def test_groups_are_drawn_together(tmp_path):
    """Copies of the examples tell nothing new, so neither intervals nor ties may depend on them."""
    widths, ties = {}, {}
    for copies in (1, 6):
        folders = [tmp_path / f"{copies}-{place}" for place in (1, 2)]
        runs = [
            SimpleNamespace(
                run_id=folder.name, dev_score=make_files(folder, quality, place, num_examples=60, copies=copies)
            )
            for place, (folder, quality) in enumerate(zip(folders, (0.8, 0.78), strict=True))
        ]
        first, second = rank_runs(
            runs, "macro_f1", lambda run_id: tmp_path / run_id, Resampling(num_resamples=300, seed=1)
        )
        widths[copies], ties[copies] = first.dev.high - first.dev.low, second.tied
    assert widths[6] == pytest.approx(widths[1], rel=0.25)
    assert ties == {1: True, 6: True}


@pytest.mark.parametrize(("name", "said"), [("mods", "moods"), ("empty", "1 failed or stopped")])
def test_an_experiment_without_finished_runs_is_an_error(store, tmp_path, name, said):
    if name == "empty":
        run = store.client.create_run(store.client.create_experiment(name), tags={artifacts.TAG_PRESET: "starter"})
        store.client.set_terminated(run.info.run_id, "FAILED")
    board = store.board(experiment=name, output=tmp_path)
    assert (board.status, board.content) == (1, None)
    assert name in board.error
    assert said in board.error
