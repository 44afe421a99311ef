"""Settings: text in, typed and checked values out, the same names everywhere."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.core import settings
from trainer.core.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Colour:
    shade: Literal["light", "dark"] = "light"
    """How light."""
    depth: float = 0.5
    """Between 0 and 1."""
    note: str = ""
    """Any text; empty = none."""

    def __post_init__(self):
        settings.require("depth", self.depth, 0 <= self.depth <= 1, "be in [0, 1]")
        settings.require("note", self.note, self.shade == "dark" or not self.note, "be empty for shade=light")


@dataclass(frozen=True, kw_only=True)
class Size:
    preset: str = "plain"
    """Preset."""
    epochs: int = 3
    """Columns."""
    learning_rate: float = 0.1
    """A setting that other programs call lr."""
    wrap: bool = False
    """Whether lines wrap."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """All of it."""

    colour: Colour = field(default_factory=Colour)
    size: Size = field(default_factory=Size)


@dataclass(frozen=True, kw_only=True)
class Other:
    """Settings of another part of the same command."""

    rows: int = 1
    """Rows, of a table
    or of a file."""


@pytest.fixture
def presets(tmp_path):
    (tmp_path / "plain.yaml").write_text("epochs: 4\n")
    (tmp_path / "deep.yaml").write_text("depth: 1e-4\nwrap: true\n")
    (tmp_path / "half.yaml").write_text("note: needs dark\n")
    return tmp_path


def parse(argv, presets):
    return settings.parse(Whole, argv, presets)


def test_a_default_gives_way_to_the_preset_and_the_preset_to_a_flag(presets):
    assert parse([], presets).size.epochs == 4
    assert parse(["--epochs", "5"], presets).size.epochs == 5
    deep = parse(["--preset", "deep"], presets)
    assert (deep.size.epochs, deep.colour.depth, deep.size.wrap) == (3, 1e-4, True)


def test_a_flag_completes_what_a_preset_leaves_contradictory(presets):
    assert parse(["--preset", "half", "--shade", "dark"], presets).colour.note == "needs dark"
    with pytest.raises(SettingsError, match="`note`"):
        parse(["--preset", "half"], presets)


@pytest.mark.parametrize("argv", [["--learning-rate=2", "--wrap=true"], ["--learning_rate", "2", "--wrap", "true"]])
def test_equals_signs_and_hyphens_make_no_difference(presets, argv):
    config = parse(argv, presets)
    assert (config.size.learning_rate, config.size.wrap) == (2.0, True)


@pytest.mark.parametrize("value", ["-x", "--y", "a b", "a=b", "", "-1"])
def test_a_value_after_an_equals_sign_may_be_any_text(presets, value):
    assert parse(["--shade=dark", f"--note={value}"], presets).colour.note == value


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epohcs", "3"], r"`epohcs`.*`epochs`"),
        (["--epoch", "3"], r"`epoch` .*`epochs`"),  # no abbreviations
        (["--lr", "3"], r"`lr`.*`learning_rate`"),
        (["--num_train_epochs=3"], r"`num_train_epochs`.*`epochs`"),
        (["--hlep"], r"`hlep`.*`help`"),
        (["--epochs", "3", "--epochs", "4"], r"`epochs` must be given once"),
        (["--learning-rate=3", "--learning_rate=4"], r"`learning_rate` must be given once"),
        (["--epochs"], r"`epochs` needs a value"),
        (["--wrap"], r"`wrap` needs a value"),
        (["--wrap", "--epochs", "3"], r"`wrap` needs a value"),
        (["epochs", "3"], r"got epochs\."),
        (["--epochs", "3", "4"], r"got 4\."),
        (["--preset", "deeep"], r"`preset`.*deeep.*`deep`"),
        (["--preset"], r"`preset` needs a value"),
    ],
)
def test_a_wrong_command_line_names_the_argument_and_the_remedy(presets, argv, message):
    with pytest.raises(SettingsError, match=message):
        parse(argv, presets)


def test_free_text_loses_its_secrets_where_other_text_is_refused():
    @dataclass(frozen=True, kw_only=True)
    class Reasoned:
        reason: settings.Text = field(default_factory=settings.Text)
        place: str = "here"

    for reason, kept in (("leak of token=x", "leak of token=***"), ("see http://ann:pw@host", "see http://host")):
        config = settings.parse(Reasoned, ["--reason", reason])
        assert config.reason == kept
        assert settings.from_flat(Reasoned, {"reason": reason}) == config
    with pytest.raises(SettingsError, match="`place`"):
        settings.parse(Reasoned, ["--place", "token=x"])
    with pytest.raises(SettingsError, match="`reason`"):
        settings.parse(Reasoned, ["--reason", "x" * 5000])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--wrap", "yes"], r"`wrap` must be true or false, got yes\."),
        (["--epochs", "3.5"], r"`epochs` must be a whole number, got 3\.5\."),
        (["--epochs", "9" * 19], r"`epochs` must be below 2\^63, got 9999999999999999999\."),
        (["--note", "x" * 5000], r"`note` must have at most 4,096 characters, got x{40,}\.\.\.x{40,}\."),
        (["--note", "caf\udce9"], r"`note` must be text in Unicode \(UTF-8\), got 'caf.udce9'\."),
        (["--note", "http://ann:hunter2@host"], r"`note` must not contain a password or token, .*, got http://host\."),
        (["--shade", "drak"], r"`shade` must be one of light, dark, got drak\. .*`dark`"),
        (["--shade", "DARK"], r"`shade` .*`dark`"),
        (["--depth", "deep"], r"`depth` must be a number, got deep\."),
        (["--depth", "2"], r"`depth` must be in \[0, 1\], got 2\."),
        (["--depth=-0.5"], r"`depth` must be in \[0, 1\], got -0\.5\."),
        (["--depth", "nan"], r"`depth` .*nan\."),
        (["--epochs="], r"`epochs` must not be empty"),
        (["--learning_rate", ""], r"`learning_rate` must not be empty"),
        (["--shade="], r"`shade` must not be empty"),
        (["--preset="], r"`preset` "),
    ],
)
def test_a_wrong_value_names_the_setting_the_rule_and_the_value_as_typed(presets, argv, message):
    with pytest.raises(SettingsError, match=message):
        parse(argv, presets)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epohcs: 3", "`epohcs`.*`epochs`"),
        ("epochs: three", "`epochs` must be a whole number, got three in preset broken"),
        ("epochs: true", "`epochs` .*true"),
        ("wrap: 1", "`wrap` must be true or false, got 1"),
        ("shade: grey", "`shade` must be one of light, dark, got grey"),
        ("depth: true", "`depth` must be a number, got true"),
    ],
)
def test_a_wrong_preset_names_itself_and_the_rule(presets, text, message):
    (presets / "broken.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        parse(["--preset", "broken"], presets)


@pytest.mark.parametrize(
    ("argv", "epochs", "wrap"),
    [
        (["--epochs=16.0", "--wrap=True"], 16, True),
        (["--epochs", "16.0", "--wrap", "FALSE"], 16, False),
        (["--epochs=None", "--wrap", "None", "--note=None"], 4, False),
    ],
)
def test_values_may_be_spelled_as_mlflows_python_api_does(presets, argv, epochs, wrap):
    config = parse(argv, presets)
    assert (config.size.epochs, config.size.wrap, config.colour.note) == (epochs, wrap, "")
    assert set(settings.names_given(argv)) <= {"epochs", "wrap"} - ({"epochs", "wrap"} if epochs == 4 else set())


class TestParseKnown:
    def test_returns_the_arguments_of_other_settings_in_their_order(self):
        argv = ["--epochs=5", "--rows", "3", "--max-cells", "-9", "--wrap", "true", "--lid=x"]
        config, rest = settings.parse_known(Whole, argv)
        assert (config.size.epochs, config.size.wrap) == (5, True)
        assert rest == ["--rows", "3", "--max-cells", "-9", "--lid=x"]
        assert settings.names_given(rest) == ["rows", "max_cells", "lid"]

    def test_an_unknown_name_is_looked_up_in_both_configurations(self):
        _, rest = settings.parse_known(Whole, ["--row", "3"])
        with pytest.raises(SettingsError, match=r"`row` .*`rows`"):
            settings.parse(Other, rest, other_class=Whole)
        _, rest = settings.parse_known(Whole, ["--epohcs", "3"])
        with pytest.raises(SettingsError, match=r"`epohcs` .*`epochs`"):
            settings.parse(Other, rest, other_class=Whole)

    def test_a_name_given_twice_is_refused_whoever_knows_it(self):
        with pytest.raises(SettingsError, match="`max_rows` must be given once"):
            settings.parse_known(Whole, ["--max-rows", "3", "--max_rows", "4"])


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0:=")).filter(lambda text: text != "None")


@given(
    st.builds(
        Whole,
        colour=st.builds(Colour, shade=st.just("dark"), depth=st.floats(0, 1), note=_TEXTS),
        size=st.builds(Size, epochs=st.integers(-(2**63), 2**63 - 1), wrap=st.booleans(), preset=_TEXTS.filter(bool)),
    )
)
def test_settings_survive_json_and_the_command_line(config):
    flat = settings.flatten(config)
    assert settings.from_flat(Whole, json.loads(json.dumps(flat))) == config
    assert settings.parse(Whole, settings.as_argv(flat)) == config


def test_help_documents_every_setting_and_shows_the_values_of_the_preset(presets, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help", "--preset", "deep"], presets)
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert "default: 0.0001" in shown
    assert "default: deep" in shown
    for name in settings.flatten(Whole()):
        assert f"--{name} " in shown


def test_help_ends_with_an_example_and_joins_the_lines_of_a_text(capsys):
    with pytest.raises(SystemExit):
        settings.parse(Other, ["--help"], example="mlflow run . -e train -P rows=2")
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == "Example:  mlflow run . -e train -P rows=2"
    assert "Rows, of a table or of a file." in shown


def test_train_settings_have_unique_names_and_their_help_loads_nothing_slow():
    from trainer.config import TrainConfig

    program = (
        "import sys\nfrom trainer.train import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "slow = {'torch', 'transformers', 'mlflow', 'pandas', 'scipy', 'sklearn', 'datasets', 'matplotlib'}\n"
        "print('LOADED', sorted(slow & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "LOADED []"
    components = vars(TrainConfig()).values()
    names = settings.flatten(TrainConfig())
    assert len(names) == sum(len(vars(part)) for part in components) > 40
    for name in names:
        assert f"--{name} " in out
