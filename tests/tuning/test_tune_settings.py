"""The settings of a search: their rules, the names on the command line, and that each of them does something."""

import dataclasses
from pathlib import Path

import optuna
import pytest

from trainer.config import TrainConfig
from trainer.core import settings
from trainer.core.errors import SettingsError
from tuning import pipeline, setup
from tuning.config import SearchConfig, TuneConfig
from tuning.execution.resources import Resources, assign
from tuning.finals import finals
from tuning.space.grid import make_grid
from tuning.space.parser import read_space
from tuning.study.pruners import make_pruner
from tuning.study.samplers import make_sampler
from tuning.study.trials import Attribute
from tuning.training_settings import TrainingSettings

NAMES = {
    "study": ("study", "worker", "output", "seed"),
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
        ({"grid_points": 4}, "`grid_points` must .*sampler=grid"),
        ({"top_k": 0, "seeds": 2}, "`seeds` must .*top_k=0"),
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
        ({"against": "latency", "workers": 2}, "`workers` must"),
        ({"against": "latency", "worker": "true"}, "`worker` must"),
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


TRAINING = TrainingSettings(
    given={"epochs": 6},
    values={"loss": "bce", "epochs": 6, "dropout": 0.1, "preset": "starter"},
    components={"loss": "loss", "epochs": "fit", "dropout": "model", "preset": "run"},
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
    monkeypatch.setattr(setup, "SPACES", tmp_path)

    def call(**values):
        config = parse(**values)
        losses = setup._losses(config.search.losses, TRAINING, {})
        name = setup._space_name(config.search.space, TRAINING)
        path = name if name.endswith(".yaml") else f"{name}.yaml"
        space = read_space(path, TRAINING.values, TRAINING.components, losses, [])
        made = optuna.create_study(study_name="s", sampler=make_sampler(config.search, config.study.seed))
        request = setup.SearchRequest(
            config=config,
            training=TRAINING,
            losses=losses,
            space=space,
            grid=(),
            workers=(),
            machine=Resources((0,)),
            earlier=(),
        )
        return pipeline.Search(
            setup.OpenSearch(
                request=request,
                storage=None,
                study=made,
                tracker=None,
                runs=None,
                executor=None,
                screen=None,
                stop=None,
            )
        )

    return call


def phase_of(search):
    phase = search._search_phase()
    trial = search.opened.study.ask()
    parts = {name: value for name, value in vars(phase).items() if not callable(value)}
    return parts, phase.suggest(trial), list(phase.seeds(trial))


def sampler_of(search):
    return type(search.opened.study.sampler)


def pruner_of(search):
    return type(make_pruner(search.config.search))


def dimensions_of(search):
    return search.opened.request.space.describe()


def finals_of(search):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made, rounds = (optuna.create_study(direction="maximize") for _ in range(2))
    for number in range(5):
        made.enqueue_trial({}, user_attrs={Attribute.SETTINGS: {}})
        made.tell(made.ask(), number / 10)
    config = search.config
    first = config.study.seed + 1
    finals.enqueue(rounds, made, config.finals.top_k, range(first, first + config.finals.seeds))
    return [trial.user_attrs for trial in rounds.trials]


def grid_of(search):
    return make_grid(search.opened.request.space, search.config.search.grid_points, 100)


def workers_of(search):
    return assign([0, 1, 2, 3], [], search.config.search.workers, "auto")


IN_WHOLE_SEARCHES = {
    "study": "test_tune, test_tune_stops: the study of that name is continued",
    "worker": "test_tune_stops: a worker shares search and finals on a database",
    "trials": "test_tune: so many trials are run",
    "max_failures": "test_tune: it stops when everything fails",
    "warm_start": "test_tune_input: an experiment that does not exist; test_warm: what is queued",
    "promote": "test_mlflow_run: the winner comes before the gate",
    "retrain_on_dev": "test_winner, test_mlflow_run: the winner is trained once more",
}
CHANGES = {
    "output": ("elsewhere", phase_of),
    "seed": (7, phase_of),
    "workers": (2, workers_of),
    "losses": ("bce,asl", dimensions_of),
    "space": ("mine.yaml", dimensions_of),
    "sampler": ("random", sampler_of),
    "pruner": ("median", pruner_of),
    "objective": ("macro_ap", phase_of),
    "against": ("size", phase_of),
    "reports": (27, phase_of),
    "repeats": (5, phase_of),
    "grid_points": (5, grid_of),
    "trial_minutes": (2, phase_of),
    "top_k": (1, finals_of),
    "seeds": (2, finals_of),
}


def test_the_table_has_every_setting():
    assert CHANGES.keys() | IN_WHOLE_SEARCHES.keys() == settings.flatten(TuneConfig()).keys()
    assert not CHANGES.keys() & IN_WHOLE_SEARCHES.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_is_live(opened, name):
    value, seen = CHANGES[name]
    base = {"sampler": "grid"} if name == "grid_points" else {}
    assert seen(opened(**base, **{name: value})) != seen(opened(**base))
    assert seen(opened(**base)) == seen(opened(**base))  # else a difference would say nothing


class TestPhase:
    def test_a_pruner_sees_about_as_many_scores_as_requested(self, opened):
        search = opened()
        assert phase_of(search)[1]["evals_per_epoch"] == 1  # six reports over six epochs
        assert phase_of(opened(reports=12))[1]["evals_per_epoch"] == 2
        assert "evals_per_epoch" not in phase_of(opened(pruner="none"))[1]
        assert "evals_per_epoch" not in phase_of(opened(repeats=5))[1]
        training = dataclasses.replace(TRAINING, given={"evals_per_epoch": 3})
        request = dataclasses.replace(search.opened.request, training=training)
        other = pipeline.Search(dataclasses.replace(search.opened, request=request))
        assert "evals_per_epoch" not in phase_of(other)[1]

    def test_scores_are_reported_where_something_prunes_by_them(self, opened):
        assert phase_of(opened())[0]["reports"] == 6
        assert phase_of(opened(repeats=5))[0]["reports"] == 0
        assert phase_of(opened(repeats=5))[0]["prunes_by_seed"] is True
        assert phase_of(opened(repeats=3))[0]["prunes_by_seed"] is False
        assert phase_of(opened(against="latency"))[0]["reports"] == 0

    def test_trials_never_read_test_and_seeds_follow_each_other(self, opened):
        parts, _, seeds = phase_of(opened(seed=7, repeats=4, objective="macro_ap"))
        assert parts["settings"] == {"epochs": 6, "output": "runs", "best_metric": "macro_ap", "read_test": False}
        assert seeds == [7, 8, 9, 10]
        assert parts["metrics"] == ("dev/macro_ap",)


@pytest.mark.parametrize("losses", ["asl", " asl "])
def test_a_single_loss_reaches_training_as_the_loss_of_all_trials(losses):
    assert setup._with_single_loss(losses, {"epochs": "2"}) == {"epochs": "2", "loss": "asl"}
    assert setup._with_single_loss("", {"loss": "bce"}) == {"loss": "bce"}
    assert setup._with_single_loss("bce,asl", {"epochs": "2"}) == {"epochs": "2"}


@pytest.mark.parametrize(
    ("losses", "given", "message"),
    [
        ("bce,bce", {}, "losses.* must"),
        ("bce,asl", {"loss": "bce"}, "`loss` must be left out"),
        ("asl", {"loss": "asl"}, "`loss` must be left out"),
    ],
)
def test_losses_that_contradict_themselves(losses, given, message):
    with pytest.raises(SettingsError, match=message):
        setup._losses(losses, TRAINING, given)


def _choices(name):
    return SearchConfig.__dataclass_fields__[name].type.__args__


def test_path_of_the_data_and_name_of_the_preset_make_no_other_search(opened):
    request = opened().opened.request
    here, there = (
        dataclasses.replace(
            request,
            training=dataclasses.replace(TRAINING, values={**TRAINING.values, "dataset": path, "preset": name}),
        )
        for path, name in (("here", "starter"), ("/there", "presets/starter.yaml"))
    )
    assert here.about == there.about


def test_another_grid_is_another_search(opened):
    about = [
        opened(**given).opened.request.about
        for given in ({}, {"sampler": "grid"}, {"sampler": "grid", "grid_points": 4})
    ]
    assert about[0] != about[1] != about[2]
