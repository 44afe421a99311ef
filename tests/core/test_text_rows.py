"""Rows of text files are parsed with their lines; one that cannot be read costs no other row."""

import io

import pytest

from trainer.core.text_rows import is_unicode, parse_csv, parse_json_lines, parse_table, parse_text


def csv_rows(text, delimiter=",", **options):
    return list(parse_csv(io.StringIO(text, newline=""), delimiter, **options))


def test_records_have_their_first_line_and_their_source():
    rows = csv_rows('a,b\r\n\r\n1,"two\nlines"\n3,"x ""y"""')
    assert rows == [
        (1, ["a", "b"], "a,b\r\n"),
        (3, ["1", "two\nlines"], '1,"two\nlines"\n'),
        (5, ["3", 'x "y"'], '3,"x ""y"""'),
    ]


@pytest.mark.parametrize("bad", ['2,"never closed', '2,"closed" late'])
def test_a_stray_quote_costs_its_own_line_only(bad):
    rows = csv_rows(f'1,good\n{bad}\n3,good\n4,"two\nlines"\n')
    assert [(line, cells) for line, cells, _ in rows if isinstance(cells, list)] == [
        (1, ["1", "good"]),
        (3, ["3", "good"]),
        (4, ["4", "two\nlines"]),
    ]
    assert [(line, source) for line, cells, source in rows if isinstance(cells, str)] == [(2, f"{bad}\n")]


def test_between_tabs_a_stray_quote_is_a_letter():
    assert [cells for _, cells, _ in csv_rows('1\t"open\n2\t"x\ty"\n', "\t")] == [["1", '"open'], ["2", "x\ty"]]
    assert [cells for _, cells, _ in csv_rows('1\t"x"\n', "\t", quoted=False)] == [["1", '"x"']]


def test_a_table_names_its_separator_or_shows_it():
    def cells(text, suffix=".csv"):
        return [(line, row) for line, row, _ in parse_table(io.StringIO(text, newline=""), suffix)]

    assert cells("a;b\n1,5;2\n") == [(1, ["a", "b"]), (2, ["1,5", "2"])]
    assert cells("sep=;\r\n a ;b\r\n1;2\r\n") == [(2, ["a", "b"]), (3, ["1", "2"])]
    assert cells("a;b,c\n") == [(1, ["a;b", "c"])]
    assert cells("a\tb;c\n", ".tsv") == [(1, ["a", "b;c"])]
    assert cells("") == []


def test_long_cells_are_read():
    text = "long " * 100_000
    assert csv_rows(f"1,{text}")[0][1] == ["1", text]


def test_json_objects_or_reasons():
    lines = ['{"a": 1}\n', "\n", "[1]", "{oops", '{"a": ' + "9" * 5000 + "}", "[" * 100_000, '{"a": "\\ud83d"}']
    rows = list(parse_json_lines(lines))
    assert rows[0] == (1, {"a": 1}, '{"a": 1}')
    assert [line for line, _, _ in rows] == [1, 3, 4, 5, 6, 7]
    assert all(isinstance(reason, str) and reason for _, reason, _ in rows[1:])


def test_lines_of_text():
    assert list(parse_text(["one\r\n", "\n", "three"])) == [(1, ["one"], "one"), (2, [""], ""), (3, ["three"], "three")]


def test_bytes_that_are_not_utf8_are_no_unicode():
    assert is_unicode("é😀")
    assert not is_unicode(b"caf\xe9".decode("utf-8", "surrogateescape"))
