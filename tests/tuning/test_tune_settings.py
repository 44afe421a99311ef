"""The settings of a search: their rules, the names on the command line, and that each of them does something."""

import dataclasses
from pathlib import Path

import optuna
import pytest

from trainer.config import TrainConfig
from trainer.core import settings
from trainer.core.errors import SettingsError
from tuning import pipeline, preparation
from tuning.config import SearchConfig, TuneConfig
from tuning.execution.process import Share
from tuning.execution.resources import divide
from tuning.finals import finals
from tuning.questions import Trainable
from tuning.space.grid import make_grid
from tuning.space.parser import read_space
from tuning.study import storage as study
from tuning.study.trials import Attribute

NAMES = {
    "study": ("study", "output", "seed"),
    "search": (
        *("trials", "workers", "losses", "space", "sampler", "pruner", "objective", "against"),
        *("reports", "repeats", "grid_points", "trial_minutes", "max_failures", "warm_start"),
    ),
    "finals": ("top_k", "seeds", "promote", "retrain_on_dev"),
}
PRUNERS = ("auto", "hyperband", "median", "successive_halving", "wilcoxon", "none")


def parse(**values):
    words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    return settings.parse(TuneConfig, words)


def test_the_command_line_is_the_one_on_record():
    """Others build on these names. Change them together with CHANGELOG.md."""
    default = TuneConfig()
    found = {part.name: tuple(vars(getattr(default, part.name))) for part in dataclasses.fields(default)}
    assert found == NAMES


def test_only_seed_and_output_are_settings_of_training_too():
    shared = settings.flatten(TuneConfig()).keys() & settings.flatten(TrainConfig()).keys()
    assert shared == {"seed", "output"}
    for name in shared:
        assert settings.flatten(TuneConfig())[name] == settings.flatten(TrainConfig())[name]


def test_a_command_line_is_parted_between_the_search_and_training():
    argv = ["--trials=5", "--epochs", "2", "--top-k", "0", "--max-length", "64", "--study", "", "--seed", "3"]
    config, rest = settings.parse_known(TuneConfig, argv)
    assert (config.search.trials, config.finals.top_k, config.study.seed) == (5, 0, 3)
    assert rest == ["--epochs", "2", "--max-length", "64"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"study": " s"}, "`study` must"),
        ({"study": "s "}, "`study` must"),
        ({"seed": -1}, r"`seed` must"),
        ({"seed": 2**31}, r"`seed` must"),
        ({"trials": 0}, "`trials` .*0"),
        ({"repeats": 0}, "`repeats` must"),
        ({"max_failures": 0}, "`max_failures` must"),
        ({"reports": 1}, "`reports` must"),
        ({"grid_points": 1}, "`grid_points` must"),
        ({"workers": 0}, "`workers` .*0"),
        ({"workers": "many"}, "`workers` must"),
        ({"workers": "-2"}, "`workers` must"),
        ({"workers": "1.5"}, "`workers` must"),
        ({"trial_minutes": -1}, "`trial_minutes` must"),
        ({"trial_minutes": "nan"}, "`trial_minutes` must"),
        ({"trial_minutes": "inf"}, "`trial_minutes` must"),
        ({"pruner": "wilcoxon"}, "`repeats` .*1"),
        ({"pruner": "wilcoxon", "repeats": 3}, "`repeats` must"),
        ({"pruner": "hyperband", "repeats": 2}, "`pruner` must"),
        ({"pruner": "median", "repeats": 5}, "`pruner` must"),
        ({"pruner": "median", "against": "latency"}, "`pruner` must"),
        ({"pruner": "wilcoxon", "repeats": 4, "against": "size"}, "`pruner` must"),
        ({"sampler": "bayes"}, "`sampler` must"),
        ({"pruner": "hyper"}, "Did you mean `hyperband`"),
        ({"objective": "loss"}, "`objective` must"),
        ({"against": "cost"}, "`against` must"),
        ({"top_k": -1}, "`top_k` must"),
        ({"seeds": 0}, "`seeds` must"),
        ({"top_k": 0, "promote": "true"}, "`promote` must"),
        ({"top_k": 0, "retrain_on_dev": "true"}, "`retrain_on_dev` must"),
    ],
)
def test_a_rule_that_is_broken_is_named(values, message):
    with pytest.raises(SettingsError, match=message):
        parse(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"workers": 3},
        {"repeats": 4, "pruner": "wilcoxon"},
        {"repeats": 2, "pruner": "none"},
        {"against": "size", "pruner": "none", "repeats": 5},
        {"top_k": 1, "promote": "true", "retrain_on_dev": "true"},
        {"trial_minutes": 0.5, "seed": 2**31 - 1},
    ],
)
def test_the_edges_of_the_rules_are_allowed(values):
    assert {name: str(value) for name, value in values.items()}.items() <= {
        name: str(value).lower() for name, value in settings.flatten(parse(**values)).items()
    }.items()


@pytest.mark.parametrize(
    ("repeats", "against", "active"),
    [
        (1, "none", "hyperband"),
        (2, "none", "none"),
        (3, "none", "none"),
        (4, "none", "wilcoxon"),
        (9, "none", "wilcoxon"),
        (1, "latency", "none"),
        (1, "size", "none"),
        (5, "size", "none"),
    ],
)
def test_auto_is_the_pruner_that_can_prune(repeats, against, active):
    assert SearchConfig(repeats=repeats, against=against).active_pruner == active


def test_a_pruner_that_is_named_is_taken():
    assert _choices("pruner") == PRUNERS
    for name in PRUNERS[1:]:
        assert SearchConfig(pruner=name, repeats=4 if name == "wilcoxon" else 1).active_pruner == name


TRAINABLE = Trainable(
    words=("--epochs", "6"),
    settings={"loss": "bce", "epochs": 6, "dropout": 0.1, "preset": "starter"},
    known={"loss": "objective", "epochs": "fit", "dropout": "encoder", "preset": "run"},
    presets={},
    data={"digests": {"train": "t", "dev": "d"}, "label_names": ["joy"]},
)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """What a search of these settings would do."""
    monkeypatch.chdir(tmp_path)
    text = "dropout: {low: 0.0, high: 0.4}\n"
    Path("mine.yaml").write_text(text, encoding="utf-8")
    Path("default.yaml").write_text(text.replace("0.4", "0.2"), encoding="utf-8")
    monkeypatch.setattr(preparation, "SPACES", tmp_path)

    def call(**values):
        config = parse(**values)
        losses = preparation._losses(config.search.losses, TRAINABLE, {})
        name = preparation._space_name(config.search.space, TRAINABLE)
        path = name if name.endswith(".yaml") else f"{name}.yaml"
        space = read_space(path, TRAINABLE.settings, TRAINABLE.known, losses, [])
        made = optuna.create_study(study_name="s", sampler=study.make_sampler(config.search, config.study.seed))
        task = preparation.Task(
            config=config,
            trainable=TRAINABLE,
            losses=losses,
            space=space,
            grid=(),
            shares=(),
            whole=Share((0,)),
            earlier=(),
        )
        found = pipeline.Search(task, None, made, None, None, None, None)
        return config, found

    return call


def plan_of(config, found):
    plan = found._plan()
    trial = found.study.ask()
    parts = {name: value for name, value in vars(plan).items() if not callable(value)}
    return parts, plan.changes(trial), list(plan.seeds(trial))


def sampler_of(config, found):
    return type(found.study.sampler)


def pruner_of(config, found):
    return type(study.make_pruner(config.search))


def dimensions_of(config, found):
    return found.task.space.describe()


def finals_of(config, found):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.InMemoryStorage()
    made = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    for number in range(5):
        made.enqueue_trial({}, user_attrs={Attribute.SETTINGS: {}})
        made.tell(made.ask(), number / 10)
    rounds = finals.open_finals(storage, made)
    first = config.study.seed + 1
    finals.fill(rounds, made, config.finals.top_k, range(first, first + config.finals.seeds), {})
    return [trial.system_attrs["fixed_params"] for trial in rounds.trials]


def grid_of(config, found):
    return make_grid(found.task.space, config.search.grid_points, 100)


def shares_of(config, found):
    return divide([0, 1, 2, 3], [], config.search.workers, "auto")


IN_WHOLE_SEARCHES = {
    "study": "test_tune, test_tune_stops: the study of that name is continued",
    "trials": "test_tune: so many trials are run",
    "max_failures": "test_tune: it stops when everything fails",
    "warm_start": "test_tune_input: an experiment that does not exist; test_warm: what is queued",
    "promote": "test_mlflow_run: the winner comes before the gate",
    "retrain_on_dev": "test_winner, test_mlflow_run: the winner is trained once more",
}
CHANGES = {
    "output": ("elsewhere", plan_of),
    "seed": (7, plan_of),
    "workers": (2, shares_of),
    "losses": ("bce,asl", dimensions_of),
    "space": ("mine.yaml", dimensions_of),
    "sampler": ("random", sampler_of),
    "pruner": ("median", pruner_of),
    "objective": ("macro_ap", plan_of),
    "against": ("size", plan_of),
    "reports": (27, plan_of),
    "repeats": (5, plan_of),
    "grid_points": (5, grid_of),
    "trial_minutes": (2, plan_of),
    "top_k": (1, finals_of),
    "seeds": (2, finals_of),
}


def test_the_table_has_every_setting():
    assert CHANGES.keys() | IN_WHOLE_SEARCHES.keys() == settings.flatten(TuneConfig()).keys()
    assert not CHANGES.keys() & IN_WHOLE_SEARCHES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_is_live(opened, name):
    value, seen = CHANGES[name]
    assert seen(*opened(**{name: value})) != seen(*opened())
    assert seen(*opened()) == seen(*opened())  # else a difference would say nothing


class TestPlan:
    def test_a_pruner_sees_about_as_many_scores_as_it_was_promised(self, opened):
        config, found = opened()
        assert plan_of(config, found)[1]["evals_per_epoch"] == 1  # six reports over six epochs
        assert plan_of(*opened(reports=12))[1]["evals_per_epoch"] == 2
        assert "evals_per_epoch" not in plan_of(*opened(pruner="none"))[1]
        assert "evals_per_epoch" not in plan_of(*opened(repeats=5))[1]
        fixed = dataclasses.replace(TRAINABLE, words=("--evals_per_epoch", "3"))
        other = dataclasses.replace(found.task, trainable=fixed)
        assert "evals_per_epoch" not in plan_of(config, dataclasses.replace(found, task=other))[1]

    def test_progress_is_told_where_something_prunes_by_it(self, opened):
        assert plan_of(*opened())[0]["reports"] == 6
        assert plan_of(*opened(repeats=5))[0]["reports"] == 0
        assert plan_of(*opened(repeats=5))[0]["by_seed"] is True
        assert plan_of(*opened(repeats=3))[0]["by_seed"] is False
        assert plan_of(*opened(against="latency"))[0]["reports"] == 0

    def test_trials_never_read_test_and_seeds_follow_each_other(self, opened):
        parts, _, seeds = plan_of(*opened(seed=7, repeats=4, objective="macro_ap"))
        assert parts["words"][-4:] == ("--best_metric", "macro_ap", "--read_test", "false")
        assert seeds == [7, 8, 9, 10]
        assert parts["metrics"] == ("dev/macro_ap",)


@pytest.mark.parametrize("losses", ["asl", " asl "])
def test_a_single_loss_reaches_training_as_the_loss_of_all_trials(losses):
    assert preparation._shared(losses, {"epochs": "2"}) == {"epochs": "2", "loss": "asl"}
    assert preparation._shared("", {"loss": "bce"}) == {"loss": "bce"}
    assert preparation._shared("bce,asl", {"epochs": "2"}) == {"epochs": "2"}


@pytest.mark.parametrize(
    ("losses", "given", "message"),
    [
        ("bce,bce", {}, "losses.* must"),
        ("bce,asl", {"loss": "bce"}, "losses and loss must not both be given"),
        ("asl", {"loss": "asl"}, "losses and loss must not both be given"),
    ],
)
def test_losses_that_contradict_themselves(losses, given, message):
    with pytest.raises(SettingsError, match=message):
        preparation._losses(losses, TRAINABLE, given)


def _choices(name):
    return SearchConfig.__dataclass_fields__[name].type.__args__


def test_where_the_data_lies_and_what_the_preset_is_called_make_no_other_search(opened):
    _, found = opened()
    here, there = (
        dataclasses.replace(
            found.task,
            trainable=dataclasses.replace(TRAINABLE, settings={**TRAINABLE.settings, "dataset": path, "preset": name}),
        )
        for path, name in (("here", "starter"), ("/there", "presets/starter.yaml"))
    )
    assert here.about == there.about


def test_another_grid_is_another_search(opened):
    about = [
        opened(**given)[1].task.about for given in ({}, {"sampler": "grid"}, {"sampler": "grid", "grid_points": 4})
    ]
    assert about[0] != about[1] != about[2]
    assert opened(grid_points=4)[1].task.about == about[0]  # where there is none, its points do not matter
