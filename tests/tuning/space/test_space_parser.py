"""A space file becomes ranges and choices; an invalid line is refused with its setting."""

import json
import re

import pytest
from space_helpers import COMPONENTS, random_trial, settings_of

from trainer.core.errors import SettingsError
from tuning.space.parser import read_space

NINES = "9" * 400


def test_decimals_that_yaml_reads_as_text_are_numbers(read):
    space = read("learning_rate: {choices: [1e-4, 3.0e-4]}\nweight_decay: {low: 1e-3, high: 1e-1, log: true}")
    assert space.dimensions[0].choices == (1e-4, 3e-4)
    assert all(isinstance(choice, float) for choice in space.dimensions[0].choices)
    assert (space.dimensions[1].low, space.dimensions[1].high) == (1e-3, 0.1)


def test_a_step_is_kept(read):
    space = read("warmup_ratio: {low: 0.0, high: 0.3, step: 0.1}\nepochs: {low: 2, high: 8, step: 3}")
    seen = [space.suggest(random_trial(seed)) for seed in range(20)]
    assert {values["epochs"] for values in seen} == {2, 5, 8}
    assert {round(values["warmup_ratio"], 9) for values in seen} == {0.0, 0.1, 0.2, 0.3}


def test_given_settings_are_not_varied(read):
    text = "epochs: {low: 2, high: 4}\ndropout: {low: 0.0, high: 0.3}"
    assert [one.name for one in read(text, fixed=["epochs"]).dimensions] == ["dropout"]
    with pytest.raises(SettingsError, match="losses=combined"):
        read(text, fixed=["epochs", "dropout"])


def test_a_setting_of_a_loss_is_varied_with_the_losses_that_read_it(read):
    text = "margin: {low: 0.0, high: 0.2}\nclass_weights: {choices: [none, balanced], when: {loss: [combined]}}\n"
    conditions = {
        one.name: one.when for one in read(text, losses=("bce", "weighted_bce", "asl", "combined")).dimensions
    }
    assert conditions == {"loss": {}, "margin": {"loss": ("asl", "combined")}, "class_weights": {"loss": ("combined",)}}
    with pytest.raises(SettingsError, match="losses=bce"):
        read(text, losses=("bce",))


def test_a_space_extends_a_shipped_one(read):
    text = "extends: starter\ndropout: {low: 0.1, high: 0.2}\nmax_length: {choices: [64, 128]}"
    space = {one.name: one for one in read(text).dimensions}
    assert (space["dropout"].low, space["dropout"].high) == (0.1, 0.2)
    assert (space["epochs"].low, space["epochs"].high) == (3, 6)
    assert list(space)[-1] == "max_length"
    for name in ("nothing", "[default]"):
        with pytest.raises(SettingsError, match=r"`extends` .* default, starter, got " + re.escape(name)):
            read(f"extends: {name}")


def test_factors_are_multiples_of_the_starting_values(read):
    space = read("learning_rate: {times: [0.25, 4], log: true}\nepochs: {times: [0.5, 1.5]}")
    rate, epochs = space.dimensions
    assert (rate.low, rate.high, rate.log) == (7.5e-5, 1.2e-3, True)
    assert (epochs.low, epochs.high, epochs.is_integer) == (4, 12, True)
    assert space.describe()["learning_rate"] == {"low": 7.5e-5, "high": 1.2e-3, "log": True}
    assert json.loads(json.dumps(space.describe())) == space.describe()


@pytest.mark.parametrize("epochs", [1, 2, 3, 29])
def test_factors_of_a_count_give_a_range_of_counts(read, epochs):
    (dimension,) = read("epochs: {times: [0.5, 1.5]}", arguments=("--epochs", str(epochs))).dimensions
    assert 1 <= dimension.low < dimension.high
    assert (dimension.low, dimension.high) == (int(dimension.low), int(dimension.high))


@pytest.mark.parametrize("choices", ["1e-4, 1e-3", "1.0e-4, 0.001"])  # YAML reads the first as texts
def test_a_condition_on_a_decimal_compares_values(read, choices):
    when = "{learning_rate: [1e-4]}"
    space = read(f"learning_rate: {{choices: [{choices}]}}\ndropout: {{low: 0.1, high: 0.2, when: {when}}}")
    dropout = next(one for one in space.dimensions if one.name == "dropout")
    assert [dropout.applies({"learning_rate": value}) for value in (1e-4, 1e-3)] == [True, False]


def test_a_condition_repeats_that_of_the_setting_it_names(read):
    def space(when):
        text = "class_weights: {choices: [none, effective_number], when: {loss: [combined]}}\n"
        return read(f"{text}effective_number_beta: {{low: 0.9, high: 0.999, when: {when}}}", ("combined", "asl"))

    assert len(space("{class_weights: [effective_number], loss: [combined]}").dimensions) == 3
    with pytest.raises(SettingsError, match=r"effective_number_beta .* \{loss: \[combined\]\}"):
        space("{class_weights: [effective_number], loss: [combined, asl]}")


_CONDITION = "dropout: {low: 0, high: 0.2, when: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lerning_rate: {low: 1, high: 2}", "`lerning_rate`.* Did you mean `learning_rate`"),
        ("null: {low: 1, high: 2}", "`space`.* got null"),
        ("1: {low: 1, high: 2}", "`space`.* got 1"),
        *((f"{name}: {{choices: [a, b]}}", f"`{name}`") for name in ("threshold_policy", "seed", "dataset")),
        *((f"{name}: {{low: 1, high: 3}}", f"`{name}`") for name in ("best_metric", "evals_per_epoch")),
        ("loss: {choices: [bce, asl]}", "Use losses=bce,asl"),
        ("dropout: {low: 0.1, high: 0.1}", "dropout .* must rise, got {low: 0.1, high: 0.1}"),
        ("learning_rate: {times: [2, 0.5]}", "learning_rate .* must rise"),
        ("weight_decay: {low: 0, high: 0.1, log: true}", "weight_decay .* above 0"),
        ("weight_decay: {low: 0.1, high: 0.5, log: true, step: 0.1}", "weight_decay .* without a step"),
        *(
            (f"dropout: {{low: 0.1, high: 0.5, step: {step}}}", "dropout .* steps")
            for step in ("0", "-0.1", "wide", "[0.1]", "0.3", "1e-300")
        ),
        ("epochs: {low: 1, high: 5, step: 3}", "epochs .* steps"),
        ("epochs: {low: 1, high: 5, step: 0.5}", "epochs .* integers"),
        *(
            (f"dropout: {line}", "dropout .* two numbers")
            for line in (
                *("{low: .nan, high: 0.5}", "{low: 0.1, high: .inf}", "{low: -1.0e+308, high: 1.0e+308, step: 1}"),
                *("{times: [1, 2, 3]}", "{low: 0.1}", "{low: small, high: 0.5}"),
            )
        ),
        *(
            (f"dropout: {line}", "line 1 .* 300 digits")
            for line in (
                f"{{low: 0, high: {NINES}}}",
                f"{{times: [1, {NINES}]}}",
                f"{{low: 0, high: 1, step: {NINES}}}",
            )
        ),
        ("label_smoothing: {times: [1, 2]}", "label_smoothing"),
        *((f"{name}: {{low: 0, high: 1}}", f"`{name}` .* choices") for name in ("pooling", "compile")),
        ("epochs: {low: 1.5, high: 4}", "epochs .* integers"),
        *(
            (f"batch_size: {{choices: {choices}}}", "batch_size .* different values")
            for choices in ("[]", "[16, 32, 16]", "[[16], 32]")
        ),
        ("learning_rate: {choices: [1e-4, 0.0001]}", "learning_rate .* different values"),
        *(
            (f"dropout: {line}", "`dropout` .* optionally")
            for line in (
                *("0.1", "[0.1, 0.2]", "{low: 0.1, hihg: 0.5}", "{low: 0.1, high: 0.5, choices: [0.1]}"),
                *("{when: {loss: [bce]}}", "{choices: 1}", "{choices: [1], log: true}", "{times: 2}"),
                *("{times: [0.5, 2], high: 9}", "{low: 0.1, high: 0.2, log: 'no'}", "{low: 0, high: 1, when: [loss]}"),
            )
        ),
        (_CONDITION + "{los: [asl]}}", "dropout .* los.* Did you mean `loss`"),
        *(
            (_CONDITION + when + "}", "`when` of dropout")
            for when in ("{loss: asl}", "{loss: []}", "{loss: [[asl]]}", "{1: [asl]}")
        ),
        ("schedule: {choices: [cosine, linear]}\n" + _CONDITION + "{schedule: [cosin]}}", "cosin"),
        (_CONDITION + "{schedule: [cosine]}}\nschedule: {choices: [cosine, linear]}", "Move dropout below schedule"),
        ("epochs: {low: 1, high: 4}\n" + _CONDITION + "{epochs: [8]}}", "got epochs"),
        ("[dropout]", "space"),
        ("", "space"),
        ("dropout: {low: 0.1, high", "space"),
        ("dropout: {low: 0.1, high: 0.2}\ndropout: {low: 0.3, high: 0.4}", "dropout"),
    ],
)
def test_invalid_lines(read, text, message):
    with pytest.raises(SettingsError, match=message):
        read(text)


def test_a_value_that_aliases_make_huge_is_abbreviated(read):
    lines = ["a: &l0 [x, x]", *(f"{'abcdefghij'[n]}: &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, 9))]
    with pytest.raises(SettingsError) as caught:
        read("dropout:\n" + "\n".join(f"  {line}" for line in lines))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("name", "message"), [("defualt", "Did you mean `default`"), ("a.yaml", "a.yaml")])
def test_a_space_that_does_not_exist(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=message):
        read_space(name, settings_of(), COMPONENTS, ("bce",), [])
