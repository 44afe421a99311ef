"""Settings: text in, typed and checked values out, the same names everywhere."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from trainer.core import settings
from trainer.core.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Colour:
    shade: Literal["light", "dark"] = "light"
    """How light."""
    depth: float = 0.5
    """Between 0 and 1."""

    def __post_init__(self):
        if not 0 <= self.depth <= 1:
            raise SettingsError(f"depth must be in [0, 1], but got {self.depth=}.")


@dataclass(frozen=True, kw_only=True)
class Size:
    preset: str = "plain"
    """Preset."""
    width: int = 3
    """Columns."""
    wrap: bool = False
    """Whether lines wrap."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    colour: Colour = field(default_factory=Colour)
    size: Size = field(default_factory=Size)


@pytest.fixture
def presets(tmp_path):
    (tmp_path / "plain.yaml").write_text("width: 4\n")
    (tmp_path / "deep.yaml").write_text("depth: 1e-4\nwrap: true\n")
    return tmp_path


def parse(words, presets):
    return settings.parse(Whole, words, presets)


def test_a_default_gives_way_to_the_preset_and_the_preset_to_a_flag(presets):
    assert parse([], presets).size.width == 4
    assert parse(["--width", "5"], presets).size.width == 5
    deep = parse(["--preset", "deep"], presets)
    assert (deep.size.width, deep.colour.depth, deep.size.wrap) == (3, 1e-4, True)


@pytest.mark.parametrize("nothing", settings.NOT_GIVEN)
def test_the_words_for_not_given_leave_the_preset_alone(presets, nothing):
    assert parse(["--width", nothing, "--preset", nothing], presets) == parse([], presets)


def test_flags_may_be_written_with_equals_and_hyphens(presets):
    assert parse(["--wrap=true", "--shade=dark"], presets) == parse(["--wrap", "true", "--shade", "dark"], presets)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--widht", "3"], "name='widht'. Did you mean `width`"),
        (["--width", "3", "--width", "4"], "given once"),
        (["--width"], "followed by a value"),
        (["width", "3"], "`--name value` pairs"),
        (["--preset", "deeep"], "Did you mean `deep`"),
        (["--preset", "none.yaml"], "preset='none.yaml'"),
    ],
)
def test_a_wrong_command_line_names_the_word_and_the_remedy(presets, words, message):
    with pytest.raises(SettingsError, match=message):
        parse(words, presets)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--wrap", "yes"], "wrap must be true or false, but got value='yes'"),
        (["--wrap", "True"], "wrap must be true or false"),
        (["--width", "3.5"], "width must be of type int, but got value='3.5'"),
        (["--shade", "drak"], "shade must be one of light, dark, but got value='drak' .* Did you mean `dark`"),
        (["--depth", "deep"], "depth must be of type float"),
        (["--depth", "2"], r"depth must be in \[0, 1\]"),
    ],
)
def test_a_wrong_value_names_the_field_and_the_rule(presets, words, message):
    with pytest.raises(SettingsError, match=message):
        parse(words, presets)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widht: 3", "Did you mean `width`"),
        ("width: three", "width must be of type int"),
        ("wrap: 1", "wrap must be true or false"),
        ("shade: grey", "shade must be one of light, dark"),
        ("depth: true", "depth must be of type float"),
        ("[1]", "must hold `name: value` lines"),
        ("a: [", "readable"),
    ],
)
def test_a_wrong_preset_names_itself_and_the_rule(presets, text, message):
    (presets / "broken.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        parse(["--preset", "broken"], presets)


class TestSplitWords:
    def test_parts_what_is_known_from_all_others(self):
        words = ["--width=5", "--rows", "3", "--max-depth", "--9", "--wrap", "true"]
        own, others = settings.split_argv(Whole, words)
        assert own == ["--width", "5", "--wrap", "true"]
        assert others == {"rows": "3", "max_depth": "--9"}
        assert settings.parse(Whole, own).size.width == 5

    @pytest.mark.parametrize("nothing", settings.NOT_GIVEN)
    def test_leaves_out_what_is_not_given(self, nothing):
        assert settings.split_argv(Whole, ["--width", nothing, "--rows", nothing]) == ([], {})

    @pytest.mark.parametrize("word", ["-h", "--help"])
    def test_leaves_help_to_the_known_ones(self, word):
        assert settings.split_argv(Whole, ["--rows", "3", word]) == ([word], {"rows": "3"})

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["rows", "3"], "`--name value` pairs, but got word='rows'"),
            (["--rows"], "followed by a value, but got nothing after name='rows'"),
            (["--rows", "3", "--rows=4"], "given once, but got name='rows' twice"),
            (["--max-rows", "3", "--max_rows", "4"], "given once, but got name='max_rows' twice"),
        ],
    )
    def test_a_wrong_command_line_names_the_word(self, words, message):
        with pytest.raises(SettingsError, match=message):
            settings.split_argv(Whole, words)

    @examples(max_examples=30)
    @given(
        own=st.dictionaries(st.sampled_from(["shade", "depth", "width", "wrap"]), st.text(min_size=1)),
        others=st.dictionaries(st.sampled_from(["rows", "cells", "lid"]), st.text(min_size=1)),
        order=st.randoms(use_true_random=False),
    )
    def test_no_word_is_lost_whatever_the_order(self, own, others, order):
        pairs = [(name, text) for name, text in (own | others).items() if text not in settings.NOT_GIVEN]
        order.shuffle(pairs)
        words, rest = settings.split_argv(Whole, [word for name, text in pairs for word in (f"--{name}={text}",)])
        assert dict(zip((name[2:] for name in words[::2]), words[1::2], strict=True)) | rest == dict(pairs)
        assert rest.keys() <= others.keys()


class TestLoadYaml:
    def test_reads_a_shipped_name_or_a_file(self, presets):
        assert settings.load_yaml("space", "deep", presets) == {"depth": "1e-4", "wrap": True}
        (presets / "a.json").write_text('{"low": {"high": [1, null]}}')
        assert settings.load_yaml("space", str(presets / "a.json"), presets) == {"low": {"high": [1, None]}}
        assert settings.load_yaml("space", str(presets / "plain.yaml"), presets / "nowhere") == {"width": 4}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[1]", "space must hold `name: value` lines, but got space='.*a.yaml' with list"),
            ("", "space must hold `name: value` lines, but got space='.*' with NoneType"),
            ("a: [", "space must be a readable file of settings, but got space="),
            ("a: \x00", "space must be a readable file of settings"),
        ],
    )
    def test_an_error_says_what_kind_of_file_it_is(self, presets, text, message):
        (presets / "a.yaml").write_text(text)
        with pytest.raises(SettingsError, match=message):
            settings.load_yaml("space", str(presets / "a.yaml"), presets)

    def test_a_file_in_another_encoding_is_an_error(self, presets):
        (presets / "a.yaml").write_bytes(b"a: \xff\xfe")
        with pytest.raises(SettingsError, match="space must be a readable file"):
            settings.load_yaml("space", str(presets / "a.yaml"), presets)

    @pytest.mark.parametrize("name", ["pain", "nothing.yaml", "nothing.json", ""])
    def test_one_that_is_not_there_names_those_that_are(self, presets, name, monkeypatch):
        monkeypatch.chdir(presets)
        with pytest.raises(SettingsError, match=r"space must be a shipped name .* Shipped: deep, plain") as caught:
            settings.load_yaml("space", name, presets)
        assert ("Did you mean `plain`" in str(caught.value)) == (name == "pain")


@given(
    st.builds(
        Whole,
        colour=st.builds(Colour, shade=st.sampled_from(["light", "dark"]), depth=st.floats(0, 1)),
        size=st.builds(Size, width=st.integers(), wrap=st.booleans(), preset=st.text()),
    )
)
def test_flat_settings_survive_json(config):
    flat = json.loads(json.dumps(settings.flatten(config)))
    assert settings.from_flat(Whole, flat, origin="test") == config


def test_train_settings_have_unique_names_and_every_field_is_documented():
    from trainer.config import TrainConfig

    text = subprocess.run(
        [sys.executable, "-m", "trainer.train", "--help"], capture_output=True, text=True, check=True
    ).stdout
    flat = settings.flatten(TrainConfig())
    components = [getattr(TrainConfig(), part.name) for part in dataclasses.fields(TrainConfig)]
    assert len(flat) == sum(len(dataclasses.fields(part)) for part in components) > 40
    for name in flat:
        assert f"--{name} " in text


def test_help_loads_none_of_the_slow_libraries():
    program = (
        "import sys\nfrom trainer.train import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "slow = {'torch', 'transformers', 'mlflow', 'pandas', 'scipy', 'sklearn', 'datasets', 'matplotlib'}\n"
        "print('LOADED', sorted(slow & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "LOADED []"


def test_every_shipped_preset_is_a_valid_configuration():
    from trainer.config import PRESETS, parse

    names = settings.preset_names(PRESETS)
    assert {"starter", "goemotions-minilm", "goemotions-xsmall", "goemotions-base", "goemotions-large"} <= set(names)
    for name in names:
        assert parse(["--preset", name]).run.preset == name
        assert Path(PRESETS / f"{name}.yaml").read_text().startswith("#")


class TestNamesGivenTwice:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.yaml", "epochs: 1\nepochs: 2\n"),
            ("a.yaml", "when: {epochs: 1, epochs: 2}\n"),
            ("a.json", '{"epochs": 1, "epochs": 2}'),
            ("a.json", '{"when": {"epochs": 1, "epochs": 2}}'),
        ],
    )
    def test_are_refused(self, name, text, tmp_path):
        (tmp_path / name).write_text(text)
        with pytest.raises(SettingsError, match=r"readable file of settings.*'epochs' is there twice"):
            settings.load_yaml("preset", str(tmp_path / name), tmp_path)

    @pytest.mark.parametrize(
        ("name", "text", "values"),
        [
            ("a.yaml", "a: &one {x: 1}\nb: &two {y: 2}\nc: {<<: *one, <<: *two}\n", {"c": {"x": 1, "y": 2}}),
            ("a.yaml", "a: {x: 1}\nb: {x: 1}\n", {"b": {"x": 1}}),
            ("a.json", '{\n\t"a":\t{"x": 1}\n}', {"a": {"x": 1}}),
        ],
    )
    def test_are_others_than_names_in_several_places(self, name, text, values, tmp_path):
        (tmp_path / name).write_text(text)
        assert settings.load_yaml("preset", str(tmp_path / name), tmp_path).items() >= values.items()
