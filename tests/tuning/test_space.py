"""Spaces: what is shipped fits training, suggestions lie in their ranges, and what makes no sense is refused."""

import functools
import json
import math
import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import check
from trainer.config import PRESETS, parse
from trainer.core.errors import SettingsError
from trainer.core.presets import preset_names
from trainer.core.settings import flatten
from trainer.model.losses.table import LOSSES
from tuning import questions
from tuning.execution.training import as_words
from tuning.questions import Trainable, check_space
from tuning.space.parser import SPACES, read_space
from tuning.space.space import Dimension

SHIPPED = preset_names(SPACES)
OF_ALL_LOSSES = {"learning_rate", "warmup_ratio", "weight_decay", "dropout", "epochs", "batch_size"}
OWN = {
    "bce": {"label_smoothing"},
    "weighted_bce": {"class_weights"},
    "focal": {"alpha", "gamma"},
    "asl": {"gamma_pos", "gamma_neg", "margin"},
    "combined": {"alpha", "gamma", "gamma_pos", "gamma_neg", "margin", "ratio", "class_weights"},
}


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """Training answers questions here, without a process for each."""
    monkeypatch.setattr(questions, "_answer", lambda question: check.answer(json.loads(json.dumps(question))))


@functools.cache
def trainable_of(*words):
    answer = check.answer({"words": words})
    return Trainable(tuple(words), answer["settings"], answer["known"], answer["presets"], {})


def shipped(name, losses=("combined",), fixed=(), preset="starter"):
    trainable = trainable_of("--preset", preset)
    return read_space(name, trainable.settings, trainable.known, losses, fixed), trainable


@pytest.fixture
def read(tmp_path):
    """The space of a text, and what it stands on."""

    def call(text, losses=("combined",), fixed=(), words=()):
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        trainable = trainable_of(*words)
        return read_space(str(path), trainable.settings, trainable.known, losses, fixed)

    return call


def random_trial(seed):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


def ranges(space):
    """What each dimension covers, in words that two spaces can be compared by."""
    return {one.name: (one.low, one.high, one.log, one.step, one.choices) for one in space.dimensions}


class TestShipped:
    def test_there_are_so_many_and_one_fits_any_preset(self):
        assert SHIPPED == ["default", "starter"]
        assert set(OWN) == set(LOSSES)
        assert len(preset_names(PRESETS)) == 6

    @pytest.mark.parametrize("preset", preset_names(PRESETS))
    @pytest.mark.parametrize("name", SHIPPED)
    def test_training_takes_every_end_and_choice_and_reads_it(self, name, preset):
        space, trainable = shipped(name, LOSSES, preset=preset)

        check_space(space, trainable)
        asked = space.to_check()
        assert {change["loss"] for change in asked} == set(LOSSES)
        assert {key for change in asked for key in change} == {one.name for one in space.dimensions}
        for one in space.dimensions:
            assert set(one.ends) == {change[one.name] for change in asked if one.name in change}

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("name", SHIPPED)
    def test_every_loss_has_settings_of_its_own_beside_the_shared_ones(self, name, loss):
        space, trainable = shipped(name, (loss,))

        check_space(space, trainable)
        assert {one.name for one in space.dimensions} == OF_ALL_LOSSES | OWN[loss]
        assert not any(one.when for one in space.dimensions)
        assert space.base["loss"] == loss

    @pytest.mark.parametrize("name", SHIPPED)
    def test_a_loss_has_the_same_settings_alone_and_among_others(self, name):
        together, _ = shipped(name, LOSSES)
        for loss in LOSSES:
            alone, _ = shipped(name, (loss,))
            applying = {one.name for one in together.dimensions if one.applies({"loss": loss})}
            assert applying == {"loss", *(one.name for one in alone.dimensions)}
            assert {key: value for key, value in ranges(together).items() if key in ranges(alone)} == ranges(alone)

    @pytest.mark.parametrize("preset", preset_names(PRESETS))
    def test_the_search_starts_inside_the_default_space(self, preset):
        space, trainable = shipped("default", (trainable_of("--preset", preset).settings["loss"],), preset=preset)
        for one in space.dimensions:
            if one.name != "loss":
                assert one.nearest(trainable.settings[one.name]) == trainable.settings[one.name], one


class TestSuggestions:
    @settings(max_examples=40)
    @given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(SHIPPED))
    def test_lie_in_their_ranges_and_belong_to_their_loss(self, seed, name):
        space, _ = shipped(name, LOSSES)
        trial = random_trial(seed)

        values = space.suggest(trial)

        assert values == trial.params
        assert set(values) == {"loss"} | OF_ALL_LOSSES | OWN[values["loss"]]
        for one in space.dimensions:
            if one.name in values:
                assert one.nearest(values[one.name]) == values[one.name]
                assert one.choices or one.low <= values[one.name] <= one.high
                assert type(values[one.name]) in ({type(choice) for choice in one.choices} or {int, float})

    @settings(max_examples=40)
    @given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(SHIPPED))
    def test_reach_training_bit_for_bit_as_words(self, seed, name):
        space, _ = shipped(name, LOSSES)
        values = space.suggest(random_trial(seed))

        used = flatten(parse(as_words(values)))

        assert {key: used[key] for key in values} == values
        assert {key: type(used[key]) for key in values} == {key: type(value) for key, value in values.items()}

    @given(value=st.floats(1e-300, 1.0), flag=st.booleans(), count=st.integers(1, 10**9))
    def test_any_value_survives_the_command_line(self, value, flag, count):
        changes = {"learning_rate": value, "compile": flag, "epochs": count, "class_weights": "none"}
        assert changes.items() <= flatten(parse(as_words(changes))).items()

    def test_a_number_that_yaml_reads_as_text_is_a_number_again(self, read):
        space = read("learning_rate: {choices: [1e-4, 3.0e-4]}\nweight_decay: {low: 1e-3, high: 1e-1, log: true}")
        assert space.dimensions[0].choices == (1e-4, 3e-4)
        assert all(isinstance(choice, float) for choice in space.dimensions[0].choices)
        assert (space.dimensions[1].low, space.dimensions[1].high) == (1e-3, 0.1)

    def test_a_step_is_kept(self, read):
        space = read("warmup_ratio: {low: 0.0, high: 0.3, step: 0.1}\nepochs: {low: 2, high: 8, step: 3}")
        seen = [space.suggest(random_trial(seed)) for seed in range(40)]
        assert {values["epochs"] for values in seen} == {2, 5, 8}
        assert {round(values["warmup_ratio"], 9) for values in seen} == {0.0, 0.1, 0.2, 0.3}

    def test_what_the_user_has_given_is_not_varied(self, read):
        text = "epochs: {low: 2, high: 4}\ndropout: {low: 0.0, high: 0.3}"
        assert [one.name for one in read(text, fixed=["epochs"]).dimensions] == ["dropout"]
        with pytest.raises(SettingsError, match="space must vary something for losses=combined"):
            read(text, fixed=["epochs", "dropout"])


FLOATS = st.floats(0.001, 0.9)


@st.composite
def dimensions(draw):
    """A dimension as a file can have it."""
    if draw(st.booleans()):
        choices = draw(st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True))
        return Dimension(name="batch_size", choices=tuple(choices))
    is_integer, log = draw(st.booleans()), draw(st.booleans())
    if is_integer:
        step = None if log else draw(st.none() | st.integers(1, 5))
        low = draw(st.integers(1, 50))
        high = low + draw(st.integers(1, 30)) * (step or 1)
        return Dimension(name="epochs", is_integer=True, low=float(low), high=float(high), log=log, step=step)
    low, high = sorted(draw(st.lists(FLOATS, min_size=2, max_size=2, unique=True)))
    return Dimension(name="dropout", low=low, high=high, log=log)


class TestValues:
    @given(one=dimensions(), value=st.floats(-100, 200), seed=st.integers(0, 2**32 - 1))
    def test_the_nearest_is_one_that_a_trial_can_have(self, one, value, seed):
        brought = one.nearest(value)
        if one.choices:
            assert brought is None or brought in one.choices
            return
        assert brought is not None
        assert one.low <= brought <= one.high
        assert one.nearest(brought) == brought
        suggested = one.suggest(random_trial(seed))
        assert one.nearest(suggested) == suggested
        assert one.low <= value <= one.high or brought in (one.low, one.high)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Optuna warns of a value out of its range
            assert one.suggest(optuna.trial.FixedTrial({one.name: brought})) == brought

    @given(one=dimensions(), count=st.integers(2, 12))
    def test_points_are_different_values_of_the_range_with_both_ends(self, one, count):
        points = one.points(count)
        assert len(set(points)) == len(points)
        if one.choices:
            assert points == one.choices
            return
        assert list(points) == sorted(points)
        assert (points[0], points[-1]) == (one.low, one.high)
        assert all(one.nearest(point) == point for point in points)
        assert len(points) <= count
        there_are = int(one.high - one.low) // int(one.step or 1) + 1 if one.is_integer else math.inf
        assert len(points) == count or (one.is_integer and (one.log or len(points) <= there_are))
        assert one.ends == one.points(2)

    def test_points_of_a_range_with_steps_are_all_of_them_when_there_are_few(self):
        one = Dimension(name="warmup_ratio", low=0.0, high=0.3, step=0.1)
        assert [round(point, 9) for point in one.points(9)] == [0.0, 0.1, 0.2, 0.3]

    def test_points_of_a_logarithmic_range_are_evenly_spaced_in_ratio(self):
        assert Dimension(name="x", low=1e-4, high=1e-2, log=True).points(3) == pytest.approx((1e-4, 1e-3, 1e-2))


class TestProjection:
    @settings(max_examples=30)
    @given(
        rate=st.floats(1e-9, 1.0), epochs=st.integers(1, 1000), loss=st.sampled_from(LOSSES), batch=st.integers(1, 99)
    )
    def test_brings_settings_to_the_edge_and_leaves_out_what_is_no_choice(self, rate, epochs, loss, batch):
        space, trainable = shipped("default", LOSSES)
        values = {**trainable.settings, "learning_rate": rate, "epochs": epochs, "loss": loss, "batch_size": batch}

        brought = space.project(values)

        assert brought["learning_rate"] == min(max(rate, 7.5e-5), 1.2e-3)
        assert brought["epochs"] == min(max(epochs, 4), 12)
        assert brought.get("batch_size") == (batch if batch in (16, 32, 64) else None)
        assert set(brought) | {"batch_size"} == {"loss"} | OF_ALL_LOSSES | OWN[loss]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert space.suggest(optuna.trial.FixedTrial({"batch_size": 16, **brought})) == {
                "batch_size": 16,
                **brought,
            }

    def test_of_its_own_suggestion_is_the_suggestion(self):
        space, trainable = shipped("starter", LOSSES)
        for seed in range(20):
            values = space.suggest(random_trial(seed))
            assert space.project({**trainable.settings, **values}) == values


class TestGrid:
    def test_has_every_combination_once(self, read):
        space = read("epochs: {low: 2, high: 4}\nbatch_size: {choices: [16, 32]}\nwarmup_ratio: {low: 0.0, high: 0.2}")
        grid = list(space.grid(5))
        assert len(grid) == 3 * 2 * 5  # there are but three whole numbers from 2 to 4
        assert len({tuple(point.items()) for point in grid}) == len(grid)

    def test_a_branch_has_only_what_applies_there(self, read):
        text = "dropout: {low: 0.0, high: 0.2}\nmargin: {low: 0.0, high: 0.2, when: {loss: [asl]}}"
        grid = list(read(text, losses=("bce", "asl")).grid(3))

        assert len(grid) == 3 + 3 * 3
        assert all(("margin" in point) == (point["loss"] == "asl") for point in grid)

    def test_a_condition_may_name_another_setting(self, read):
        text = "schedule: {choices: [linear, cosine_with_restarts]}\n"
        text += "restarts: {low: 2, high: 4, when: {schedule: [cosine_with_restarts]}}"
        grid = list(read(text).grid(3))

        assert len(grid) == 1 + 3
        assert {"schedule": "linear"} in grid


class TestFactors:
    def test_are_multiples_of_where_the_search_starts(self, read):
        space = read("learning_rate: {times: [0.25, 4], log: true}\nepochs: {times: [0.5, 1.5]}")
        rate, epochs = space.dimensions
        assert (rate.low, rate.high, rate.log) == (7.5e-5, 1.2e-3, True)
        assert (epochs.low, epochs.high, epochs.is_integer) == (4, 12, True)

    @pytest.mark.parametrize("base", range(1, 30))
    def test_of_a_count_are_two_counts_at_least(self, read, base):
        (epochs,) = read("epochs: {times: [0.5, 1.5]}", words=("--epochs", str(base))).dimensions
        assert 1 <= epochs.low < epochs.high
        assert epochs.low == int(epochs.low)
        assert epochs.high == int(epochs.high)

    def test_are_told_resolved(self, read):
        described = read("learning_rate: {times: [0.5, 2], log: true}").describe()
        assert described == {"learning_rate": {"low": 1.5e-4, "high": 6e-4, "log": True}}
        assert json.loads(json.dumps(described)) == described


class TestBadSpaces:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "lerning_rate: {low: 1, high: 2}",
                "'lerning_rate' in space=.*, which does not exist. Did you mean `learning_rate`",
            ),
            ("threshold_policy: {choices: [fixed]}", "what is chosen on dev after a training needs no trials"),
            ("threshold_folds: {low: 3, high: 5}", "what is chosen on dev after a training needs no trials"),
            ("bootstrap_resamples: {low: 100, high: 200}", "needs no trials"),
            ("seed: {low: 1, high: 5}", "is none to search"),
            ("dataset: {choices: [a, b]}", "is none to search"),
            ("best_metric: {choices: [loss, macro_f1]}", "is none to search"),
            ("evals_per_epoch: {low: 1, high: 3}", "is none to search"),
            ("loss: {choices: [bce, asl]}", "space must leave out `loss`, .* Use losses=bce,asl"),
            ("dropout: {low: 0.3, high: 0.1}", "range of dropout must rise"),
            ("dropout: {low: 0.1, high: 0.1}", "range of dropout must rise"),
            ("weight_decay: {low: 0, high: 0.1, log: true}", "from above 0"),
            ("weight_decay: {low: 0.1, high: 0.5, log: true, step: 0.1}", "without a step"),
            ("dropout: {low: 0.1, high: 0.5, step: 0}", "range of dropout must be a whole number of steps above 0"),
            ("dropout: {low: 0.1, high: 0.5, step: -0.1}", "whole number of steps"),
            ("dropout: {low: 0.1, high: 0.5, step: wide}", "whole number of steps"),
            ("dropout: {low: 0.1, high: 0.5, step: [0.1]}", "whole number of steps"),
            ("dropout: {low: 0.1, high: 0.5, step: 0.3}", "whole number of steps"),
            ("epochs: {low: 1, high: 5, step: 3}", "whole number of steps"),
            ("epochs: {low: 1, high: 5, step: 0.5}", "whole number of steps above 0, which are whole"),
            ("dropout: {low: .nan, high: 0.5}", "range of dropout must have two numbers"),
            ("learning_rate: {low: 0.1, high: .inf}", "range of learning_rate must have two numbers"),
            ("learning_rate: {times: [2, 0.5]}", "range of learning_rate must rise"),
            ("learning_rate: {times: 2}", "learning_rate of a space must be a range"),
            ("learning_rate: {times: '13'}", "learning_rate of a space must be a range"),
            ("dropout: {low: -1.0e+308, high: 1.0e+308, step: 1}", "range of dropout must have two numbers"),
            ("null: {low: 1, high: 2}", "space must have names before the colons, but got None"),
            ("1: {low: 1, high: 2}", "space must have names before the colons, but got 1"),
            ("learning_rate: {times: [1, 2, 3]}", "range of learning_rate must have two numbers"),
            ("dropout: {low: 0.1}", "range of dropout must have two numbers"),
            ("dropout: {low: small, high: 0.5}", "range of dropout must have two numbers"),
            ("pooling: {low: 0, high: 1}", "pooling must be varied by choices"),
            ("compile: {low: 0, high: 1}", "compile must be varied by choices"),
            ("compile: {times: [0, 1]}", "compile must be varied by choices"),
            ("epochs: {low: 1.5, high: 4}", "range of epochs must have whole numbers"),
            ("batch_size: {choices: []}", "choices of batch_size must be different values"),
            ("batch_size: {choices: [16, 32, 16]}", "choices of batch_size must be different values"),
            ("batch_size: {choices: 16}", "batch_size of a space must be a range"),
            ("pooling: {choices: mean}", "pooling of a space must be a range"),
            ("batch_size: {choices: [[16], 32]}", "choices of batch_size must be different values"),
            ("dropout: {low: 0.1, hihg: 0.5}", "dropout of a space must be a range"),
            ("dropout: {low: 0.1, high: 0.5, choices: [0.1]}", "dropout of a space must be a range"),
            ("dropout: {when: {loss: [bce]}}", "dropout of a space must be a range"),
            ("batch_size: {choices: [16, 32], log: true}", "batch_size of a space must be a range"),
            ("learning_rate: {times: [0.5, 2], high: 9}", "learning_rate of a space must be a range"),
            ("learning_rate: {low: 1.0e-4, high: 1.0e-2, log: 'false'}", "learning_rate of a space must be a range"),
            ("dropout: 0.1", "dropout of a space must be a range"),
            ("dropout: [0.1, 0.2]", "dropout of a space must be a range"),
            ("margin: {low: 0, high: 0.2, when: {los: [asl]}}", r"when of margin must name settings .* \['los'\]"),
            ("margin: {low: 0, high: 0.2, when: {loss: combined}}", "when of margin must list"),
            ("margin: {low: 0, high: 0.2, when: [loss]}", "when of margin must list"),
            ("margin: {low: 0, high: 0.2, when: {loss: []}}", "when of margin must list"),
            ("margin: {low: 0, high: 0.2, when: {1: [asl], loss: [asl]}}", "when of margin must list"),
            ("margin: {low: 0, high: 0.2, when: {loss: [[asl]]}}", "when of margin must list"),
            (
                "schedule: {choices: [cosine, linear]}\nrestarts: {low: 2, high: 4, when: {schedule: [cosin]}}",
                r"when of restarts must list choices of schedule, but got \['cosin'\]",
            ),
            (
                "restarts: {low: 2, high: 4, when: {schedule: [cosine]}}\nschedule: {choices: [cosine, linear]}",
                "when of restarts must name settings before it, .* Move restarts below them",
            ),
            (
                "epochs: {low: 1, high: 4}\ndropout: {low: 0.1, high: 0.2, when: {epochs: [8]}}",
                "when of dropout must name settings with choices",
            ),
            ("margin: {low: 0, high: 0.2, when: {loss: [asl]}}", "space must vary something for losses=combined"),
            ("[dropout]", "`space`.*mine.yaml"),
            ("dropout", "`space`.*mine.yaml"),
            ("", "`space`.*mine.yaml"),
            ("dropout: {low: 0.1, high", "`space`.*mine.yaml"),
            (
                "dropout: {low: 0.1, high: 0.2}\ndropout: {low: 0.3, high: 0.4}",
                "`space`.*`dropout`",
            ),
            ("dropout: {low: 0.1, low: 0.2, high: 0.4}", "`space`.*`low`"),
        ],
    )
    def test_say_what_is_wrong(self, read, text, message):
        with pytest.raises(SettingsError, match=message):
            read(text)

    @pytest.mark.parametrize(("name", "message"), [("defualt", "Did you mean `default`"), ("a.yaml", "`space` must")])
    def test_a_space_that_is_not_there(self, name, message, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SettingsError, match=message):
            shipped(name)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("dropout: {low: 0.1, high: 1.5}", r"space must.*`dropout` must be at least 0"),
            ("pooling: {choices: [mean, max]}", "`pooling` must"),
            ("batch_size: {choices: [16, many]}", "`batch_size` must be a whole number"),
            ("class_weights: {choices: [none, all], when: {loss: [combined]}}", "`class_weights` must"),
            (
                "label_smoothing: {low: 0.0, high: 0.1}\nmargin: {low: 0.0, high: 0.2}",
                r"got margin for loss=bce. Add `when: \{loss: \[...\]\}` to margin",
            ),
            (
                "dropout: {low: 0.1, high: 0.2}\nmargin: {low: 0.0, high: 0.2, when: {loss: [combinde]}}",
                "`loss` must be one of .* got combinde",
            ),
        ],
    )
    def test_are_asked_of_training(self, read, text, message):
        space = read(text, losses=("bce", "combined"))
        with pytest.raises(SettingsError, match=message):
            check_space(space, trainable_of())


@pytest.mark.parametrize(
    ("when", "stands"),
    [
        ("{class_weights: [effective_number], loss: [combined]}", True),
        ("{class_weights: [effective_number]}", False),
        ("{class_weights: [effective_number], loss: [combined, asl]}", False),
    ],
)
def test_a_condition_repeats_those_of_what_it_names(tmp_path, when, stands):
    path = tmp_path / "space.yaml"
    path.write_text(
        "class_weights: {choices: [none, effective_number], when: {loss: [combined]}}\n"
        f"effective_number_beta: {{low: 0.9, high: 0.999, when: {when}}}\n"
    )
    told = check.answer({"words": []})
    around = (told["settings"], told["known"], ("combined", "asl"), ())
    if stands:
        assert len(read_space(str(path), *around).dimensions) == 3
    else:
        with pytest.raises(SettingsError, match="must repeat what class_weights depends on"):
            read_space(str(path), *around)


@pytest.mark.parametrize("choices", ["1e-4, 1e-3", "1.0e-4, 0.001"])  # YAML reads the first as texts
def test_a_condition_on_a_decimal_is_one_on_its_value(read, choices):
    when = "{learning_rate: [1e-4]}"
    space = read(f"learning_rate: {{choices: [{choices}]}}\ndropout: {{low: 0.1, high: 0.2, when: {when}}}")
    dropout = next(one for one in space.dimensions if one.name == "dropout")
    assert [dropout.applies({"learning_rate": value}) for value in (1e-4, 1e-3)] == [True, False]
