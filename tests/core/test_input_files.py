"""Files that a user names: whatever is in them, the answer is short, soon there, and a settings error."""

import json
import os
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from trainer.config import PRESETS, parse
from trainer.core import input_files
from trainer.core.errors import EmotionsError, shorten
from trainer.core.presets import load_preset

LONGEST_MESSAGE = 300


def nested_aliases(value, join):
    """Nine levels, each with nine aliases of the one before: 9^8 values."""
    levels = [f"a: &a {value}\n"]
    for above, name in zip(string.ascii_lowercase, string.ascii_lowercase[1:9], strict=False):
        levels.append(f"{name}: &{name} {join([f'*{above}'] * 9)}\n")
    return "".join(levels)


HOSTILE = {
    "aliases.yaml": nested_aliases("[x]", lambda names: f"[{', '.join(names)}]"),
    "merges.yaml": nested_aliases("{x: 1}", lambda names: f"{{{', '.join(f'<<: {name}' for name in names)}}}"),
    "circle.yaml": "a: &a [*a]\n",
    "names.yaml": "".join(f"n{number}: 1\n" for number in range(20_000)),
    "brackets.yaml": "epochs: " + "[" * 5000 + "]" * 5000,
    "integer.yaml": "dropout: 1" + "0" * 400,
    "hexadecimal.yaml": "epochs: 0x" + "f" * 5000,
    "sexagesimal.yaml": "epochs: " + ":".join(["1"] * 20_000),
    "float.yaml": "dropout: 1" + "0" * 400 + ".0",
    "number-as-name.yaml": "1: 2\n",
    "null-as-name.yaml": "~: 2\n",
    "list-as-name.yaml": "[a]: 2\n",
    "long-name.yaml": "x" * 900 + ": 1\n",
    "long-value.yaml": "loss: " + "x" * 5000,
    "null-byte.yaml": 'dataset: "a\\0b"\n',
    "half-character.json": '{"dataset": "a\\udce9"}',
    "tag.yaml": "epochs: !!python/object/apply:os.system [x]\n",
    "day.yaml": "epochs: 2026-13-45\n",
    "brackets.json": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "integer.json": '{"epochs": ' + "9" * 5000 + "}",
    "overflow.json": '{"dropout": ' + "9" * 400 + "}",
    "twice.json": '{"epochs": 1, "epochs": 2}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_preset_is_refused_at_once_in_a_short_message(name, tmp_path):
    (tmp_path / name).write_text(HOSTILE[name], encoding="utf-8")
    with pytest.raises(EmotionsError) as caught:
        parse(["--preset", str(tmp_path / name)])
    assert len(str(caught.value)) <= LONGEST_MESSAGE


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_only_a_regular_file_is_read(make, tmp_path):
    path = tmp_path / "x.json"
    make(path)
    with pytest.raises(ValueError, match=r"^not a regular file$"):
        input_files.read_json(path)
    with pytest.raises(EmotionsError, match=r"`preset`.*x\.json"):
        load_preset(str(path), PRESETS)


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeffjoy".encode())
    assert input_files.read_text(path, limit=6) == "joy"
    with pytest.raises(ValueError, match="larger than 0 KiB"):
        input_files.read_text(path, limit=5)
    path.write_bytes(b"jo\xff")
    with pytest.raises(ValueError, match="UTF-8 at byte 3"):
        input_files.read_text(path)
    with pytest.raises(ValueError, match="No such file"):
        input_files.read_text(tmp_path / "y.txt")


def test_a_path_too_long_for_any_file_is_none(tmp_path):
    assert not input_files.is_file(tmp_path / ("x" * 3000))
    assert not input_files.is_folder(tmp_path / ("x" * 3000))
    assert input_files.is_folder(tmp_path)


def test_a_relative_path_is_shown_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert input_files.show_path(Path("in.csv")) == f"in.csv (in {shorten(tmp_path)})"
    assert input_files.show_path(Path("/data/in.csv")) == "/data/in.csv"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("abc", "abc"), ("a\nb\0c", "a\\nb\\0c"), ("caf\udce9", "caf\\udce9"), ("x" * 30 + "END", "xxxxxxxxx...xxxxxEND")],
)
def test_a_text_is_shortened_in_the_middle_and_stays_on_its_line(text, shown):
    assert shorten(text, 20) == shown


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200) | st.just("9" * 5000)
_NAMES = st.sampled_from(["epochs", "loss", "dropout", "dataset", "processes", "class_weights", "compile", "lr"])
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3))


def refusal(argv):
    """The message of a refused command line; empty when it is taken."""
    try:
        parse(argv)
    except EmotionsError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["aliases.yaml", "merges.yaml"])
def test_aliases_count_as_often_as_they_stand_for_values(tmp_path, name):
    (tmp_path / name).write_text(HOSTILE[name], encoding="utf-8")
    with pytest.raises(ValueError, match="more than 10,000 values, aliases resolved"):
        input_files.read_yaml(tmp_path / name)


@limits(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(_NAMES | st.text(max_size=20), _VALUES, max_size=4),
    suffix=st.sampled_from(["json", "yaml"]),
    cut=st.integers(0, 400),
)
def test_any_mutated_preset_is_taken_or_refused_in_a_short_message(values, suffix, cut, tmp_path):
    path = tmp_path / f"preset.{suffix}"
    path.write_text(json.dumps(values)[: cut or None], encoding="utf-8")
    assert len(refusal(["--preset", str(path)])) <= LONGEST_MESSAGE


@limits(max_examples=60)
@given(name=_NAMES | st.text(max_size=20), value=st.text(max_size=300) | st.integers().map(str) | st.floats().map(str))
def test_any_argument_is_taken_or_refused_in_a_short_message(name, value):
    assert len(refusal([f"--{name}={value}"])) <= LONGEST_MESSAGE
