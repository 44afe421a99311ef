"""Files of settings: which file a name means, and what is refused in it."""

from pathlib import Path

import pytest

from trainer.config import PRESETS, parse
from trainer.core import presets
from trainer.core.errors import SettingsError


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").write_text("width: 4\n")
    (tmp_path / "deep.yaml").write_text("depth: 1e-4\nwrap: true\n")
    return tmp_path


def test_a_name_or_a_path_is_read(shipped):
    assert presets.load_yaml("space", "deep", shipped) == {"depth": "1e-4", "wrap": True}
    (shipped / "a.json").write_text('{"low": {"high": [1, null]}}')
    assert presets.load_yaml("space", str(shipped / "a.json"), shipped) == {"low": {"high": [1, None]}}
    assert presets.load_yaml("space", str(shipped / "plain.yaml"), shipped / "nowhere") == {"width": 4}


def test_the_settings_of_a_run_are_a_preset(shipped):
    (shipped / "config.json").write_text('{"width": 4, "preset": "plain", "resume": "latest"}')
    assert presets.load_preset("config.json", shipped) == {"width": 4}


@pytest.mark.parametrize("text", [b"[1]", b"", b"a: [", b"a: \x00", b"a: \xff\xfe"])
def test_a_file_without_settings_is_named(shipped, text):
    (shipped / "broken.yaml").write_bytes(text)
    with pytest.raises(SettingsError, match=r"`space`.*broken\.yaml"):
        presets.load_yaml("space", "broken.yaml", shipped)


@pytest.mark.parametrize("name", ["pain", "nothing.yaml", "nothing.json", ""])
def test_a_missing_file_is_answered_with_the_shipped_names(shipped, name):
    with pytest.raises(SettingsError, match=r"`space`.*deep, plain") as caught:
        presets.load_yaml("space", name, shipped)
    assert ("`plain`" in str(caught.value)) == (name == "pain")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "epochs: 1\nepochs: 2\n"),
        ("a.yaml", "when: {epochs: 1, epochs: 2}\n"),
        ("a.json", '{"epochs": 1, "epochs": 2}'),
        ("a.json", '{"when": {"epochs": 1, "epochs": 2}}'),
    ],
)
def test_a_name_given_twice_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=r"`preset`.*`epochs`"):
        presets.load_yaml("preset", str(tmp_path / name), tmp_path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a: &one {x: 1}\nb: &two {y: 2}\nc: {<<: *one, <<: *two}\n", {"c": {"x": 1, "y": 2}}),
        ("a: {x: 1}\nb: {x: 1}\n", {"b": {"x": 1}}),
    ],
)
def test_a_merge_key_and_equal_names_in_two_mappings_are_allowed(text, values, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    assert presets.load_yaml("preset", str(tmp_path / "a.yaml"), tmp_path).items() >= values.items()


def test_every_shipped_preset_is_a_valid_configuration():
    names = presets.preset_names(PRESETS)
    assert {"starter", "goemotions-minilm", "goemotions-xsmall", "goemotions-base", "goemotions-large"} <= set(names)
    for name in names:
        assert parse(["--preset", name]).run.preset == name
        assert Path(PRESETS / f"{name}.yaml").read_text().startswith("#")


def test_values_of_an_earlier_version_have_their_names_of_now(shipped):
    (shipped / "old.yaml").write_text("attention: window\nloss: bce\n")
    assert presets.load_preset("old.yaml", shipped) == {"attention": "compact", "loss": "bce"}


def test_a_flag_with_a_value_of_an_earlier_version_names_that_of_now():
    with pytest.raises(SettingsError, match=r"`attention`.*window.*compact now"):
        parse(["--attention=window"])
