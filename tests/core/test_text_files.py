"""Text files that are whole after a crash."""

import json

import pytest

from trainer.core import text_files


def test_json_is_replaced_whole_and_contains_no_nan(tmp_path):
    path = text_files.write_json(tmp_path / "deep" / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        text_files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "kept"), [(b"", b""), (b"one\n", b"one\n"), (b"one\ntw", b"one\n"), (b"on", b""), (b"a\n\nb", b"a\n\n")]
)
def test_a_partial_last_line_is_removed(tmp_path, monkeypatch, content, kept):
    for size in (2, 1 << 20):
        monkeypatch.setattr(text_files, "_READ_BYTES", size)
        (tmp_path / "log").write_bytes(content)
        text_files.truncate_partial_line(tmp_path / "log")
        assert (tmp_path / "log").read_bytes() == kept
