"""Questions about settings of training: what is known, what would be refused, what a loss does not read."""

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import check
from trainer.check import answer
from trainer.config import PRESETS, TrainConfig, parse
from trainer.core.presets import preset_names
from trainer.core.settings import flatten
from trainer.model.config import LossConfig
from trainer.model.losses.table import LOSSES, settings_of


def ask(*words, **question):
    return answer({"words": [str(word) for word in words], **question})


def changed(*changes, words=()):
    return ask(*words, changes=changes)["changed"]


def test_every_setting_is_known_with_its_part():
    known = ask()["known"]
    assert known.keys() == flatten(TrainConfig()).keys()
    assert set(known.values()) == {"run", "data", "encoder", "objective", "fit", "evaluation"}
    assert (known["seed"], known["max_length"], known["dropout"]) == ("run", "data", "encoder")
    assert (known["margin"], known["epochs"], known["threshold_policy"]) == ("objective", "fit", "evaluation")


def test_settings_are_those_that_training_would_use():
    words = ("--preset", "goemotions-large", "--epochs", "7")
    assert ask(*words)["settings"] == flatten(parse(words))
    assert json.loads(json.dumps(ask(*words))) == ask(*words)


def test_presets_are_those_that_are_shipped():
    presets = ask()["presets"]
    assert sorted(presets) == preset_names(PRESETS)
    assert presets["starter"]["dataset"] == "starter"
    assert all(type(preset["learning_rate"]) is float for preset in presets.values())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--lerning_rate", 1), "Did you mean `learning_rate`?"),
        (("--learning_rate", 2), "learning_rate must be above 0 and at most 1"),
        (("--preset", "strater"), "Did you mean `starter`?"),
        (("--epochs",), "setting must be followed by a value"),
    ],
)
def test_wrong_words_are_told_and_what_is_known_all_the_same(words, error):
    told = ask(*words, changes=[{}], data=True)
    assert error in told["error"]
    assert told.keys() == {"known", "error"}


class TestChanges:
    def test_one_that_training_would_take_is_not_idle(self):
        assert changed({"learning_rate": 1e-5}, {"epochs": 1, "dropout": 0.3}, {}) == [{"idle": []}] * 3

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"learning_rate": 2}, "learning_rate must be above 0 and at most 1"),
            ({"epochs": 2.5}, "epochs must be of type int, but got value=2.5 in a change"),
            ({"epochs": True}, "epochs must be of type int"),
            ({"pooling": "max"}, "must be one of mean, cls"),
            ({"lerning_rate": 1e-4}, "a change must use known settings, but got name='lerning_rate'"),
            ({"loss": "focus"}, "must be one of bce"),
        ],
    )
    def test_one_that_it_would_refuse_says_why_and_the_others_are_judged(self, change, error):
        fine, wrong, other = changed({"epochs": 1}, change, {"loss": "bce", "margin": 0.1})
        assert error in wrong["error"]
        assert (fine, other) == ({"idle": []}, {"idle": ["margin"]})

    def test_a_change_is_judged_beside_the_words(self):
        words = ("--loss", "bce")
        assert changed({"margin": 0.1}, {"loss": "asl", "margin": 0.1}, words=words) == [
            {"idle": ["margin"]},
            {"idle": []},
        ]

    @settings(max_examples=40)
    @given(loss=st.sampled_from(LOSSES), names=st.sets(st.sampled_from(sorted(vars(LossConfig()).keys() - {"loss"}))))
    def test_idle_is_what_the_loss_does_not_read(self, loss, names):
        values = {name: vars(LossConfig())[name] for name in names}
        assert changed({"loss": loss, "epochs": 2, **values}) == [{"idle": sorted(names - settings_of(loss))}]


class TestData:
    def test_facts_are_told_when_they_are_asked_for(self):
        assert "data" not in ask()
        facts = ask(data=True)["data"]
        assert facts["name"] == "starter"
        assert facts["digests"].keys() >= {"train", "dev", "test"}
        assert facts["rows"]["train"] > facts["rows"]["dev"]
        json.dumps(facts)

    def test_digests_are_those_of_the_data(self, own_data, data_folder):
        first, same = (ask("--dataset", folder, data=True)["data"]["digests"] for folder in (own_data, data_folder))
        assert first == same
        path = next(path for path in own_data.iterdir() if "dev" in path.name)
        path.write_text(path.read_text(encoding="utf-8").replace("w9", "w8"), encoding="utf-8")
        changed = ask("--dataset", own_data, data=True)["data"]["digests"]
        assert {role for role in first if changed[role] != first[role]} == {"dev"}

    def test_bad_data_are_an_error(self, tmp_path):
        told = ask("--dataset", tmp_path / "nowhere", data=True)
        assert str(tmp_path / "nowhere") in told["error"]
        assert "data" not in told
        assert told["settings"]["dataset"] == str(tmp_path / "nowhere")

    def test_a_dev_split_too_small_to_score_is_an_error(self, own_data):
        path = next(path for path in own_data.iterdir() if "dev" in path.name)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:3]), encoding="utf-8")
        assert "dev" in ask("--dataset", own_data, data=True)["error"]


def test_the_program_reads_and_writes_json(monkeypatch, capsys):
    question = {"words": ["--loss", "bce"], "changes": [{"alpha": 0.5}]}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(question)))
    assert check.main() == 0
    assert json.loads(capsys.readouterr().out) == answer(question)
