"""The choice among the runs of an experiment."""

from types import SimpleNamespace

import pytest

from registry.promotion.selection import select_run
from trainer.core.errors import RegistryError


def run(run_id, score, *, dev="d", test="t", model=True):
    tags = {f"data.digest.{role}": digest for role, digest in (("dev", dev), ("test", test)) if digest}
    outputs = SimpleNamespace(model_outputs=["m"]) if model else None
    metrics = {} if score is None else {"dev/final/macro_f1": score, "dev/macro_f1": 0.99}
    return SimpleNamespace(
        info=SimpleNamespace(run_id=run_id, start_time=0),
        data=SimpleNamespace(metrics=metrics, tags=tags, params={}),
        outputs=outputs,
    )


class Runs:
    """The two calls of MLflow's client that the choice needs."""

    def __init__(self, *runs):
        self.runs = runs

    def search_runs(self, *_, page_token=None, **__):
        place = int(page_token or 0)
        page = [self.runs[place]] if place < len(self.runs) else []
        return type("Page", (list,), {"token": str(place + 1) if place + 1 < len(self.runs) else None})(page)

    def get_experiment(self, _):
        return SimpleNamespace(name="emotions")


def choose(*runs, champion=("t", "d"), rolled_back=()):
    digests = champion and SimpleNamespace(test_digest=champion[0], dev_digest=champion[1])
    return select_run(Runs(*runs), "1", champion=digests, rolled_back=rolled_back)


def test_the_best_score_on_dev_wins_among_runs_with_a_model_and_a_score():
    selection = choose(run("a", 0.5), run("b", 0.7), run("c", 0.9, model=False), run("d", None))
    assert selection.run_id == "b"
    assert "best of 2" in selection.remarks[0]


def test_the_last_value_of_the_series_is_the_score_of_an_older_run():
    older = run("b", None)
    older.data.metrics["dev/macro_f1"] = 0.7
    assert choose(run("a", 0.5), older).run_id == "b"


def test_the_model_of_one_fold_is_no_candidate():
    fold = run("b", 0.9, dev="other")
    fold.data.params["cfg.fold"] = "1"
    assert choose(run("a", 0.5), fold, champion=None).run_id == "a"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"test": "other"}, "test examples differ"),
        ({"dev": "other"}, "dev examples differ"),
        ({"dev": ""}, "without the tag data.digest.dev"),
    ],
)
def test_runs_on_other_examples_than_the_champion_are_left_out(other, reason):
    selection = choose(run("a", 0.5), run("b", 0.9, **other), run("c", 0.8, **other))
    assert selection.run_id == "a"
    assert [remark for remark in selection.remarks if "2 runs" in remark and reason in remark]


@pytest.mark.parametrize("role", ["dev", "test"])
def test_first_candidates_on_different_examples_are_not_compared(role):
    with pytest.raises(RegistryError, match=rf"2 different sets of {role} examples.*(a.*b|b.*a)"):
        choose(run("a", 0.5), run("b", 0.9, **{role: "other"}), champion=None)


def test_runs_without_dev_digests_are_compared_and_that_is_reported():
    selection = choose(run("a", 0.5, dev=""), run("b", 0.9, dev=""), champion=("t", ""))
    assert selection.run_id == "b"
    assert [remark for remark in selection.remarks if "not checked" in remark]


def test_rolled_back_runs_are_left_out():
    assert choose(run("a", 0.5), run("b", 0.9), rolled_back=["b"]).run_id == "a"
    with pytest.raises(RegistryError, match="rolled back"):
        choose(run("b", 0.9), rolled_back=["b"])


def test_an_experiment_without_candidates_is_an_error():
    with pytest.raises(RegistryError, match="emotions"):
        choose()
