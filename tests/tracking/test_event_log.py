import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.core.errors import TrackingError
from trainer.tracking.event_log import (
    DAMAGED,
    EventLog,
    find_event_logs,
    has_event_log,
    is_locked,
    read_finished,
    read_metrics,
)


def test_entries_come_back_in_order_with_their_time_and_run(tmp_path):
    with EventLog(tmp_path / "r1") as log:
        for step in range(5):
            log.append("r1", "metrics", {"metrics": {"train/loss": step / 3}, "step": step})
        events = list(log.events())

    assert [event.content["step"] for event in events] == [0, 1, 2, 3, 4]
    assert [event.content["metrics"]["train/loss"] for event in events] == [step / 3 for step in range(5)]
    assert {event.run_id for event in events} == {"r1"}
    assert sorted(event.time for event in events) == [event.time for event in events]


def test_only_what_is_not_delivered_is_pending_also_after_reopening(tmp_path):
    with EventLog(tmp_path) as log:
        for step in range(4):
            log.append("r", "metrics", {"step": step})
        log.mark_delivered(list(log.events())[1].end)

    with EventLog(tmp_path) as log:
        assert [event.content["step"] for event in log.pending()] == [2, 3]
        log.append("r", "status", {"status": "FINISHED"})
        assert [event.kind for event in log.pending()] == ["metrics", "metrics", "status"]


@settings(max_examples=30, deadline=None)
@given(
    contents=st.lists(st.dictionaries(st.text(), st.floats(allow_nan=False) | st.text(), max_size=4), max_size=8),
    read_bytes=st.integers(1, 50),
)
def test_any_content_survives_the_file_whatever_the_block_size(tmp_path_factory, contents, read_bytes):
    folder = tmp_path_factory.mktemp("log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.tracking.event_log._READ_BYTES", read_bytes)
        with EventLog(folder) as log:
            for content in contents:
                log.append("r", "tags", content)
        with EventLog(folder) as log:
            events = list(log.events())
            assert [event.content for event in events] == contents
            assert (events[-1].end if events else 0) == log.size


@pytest.mark.parametrize("torn", [b'{"id":7,"ti', b"x" * (3 << 20)])
def test_a_line_torn_by_a_crash_is_dropped_and_writing_goes_on(tmp_path, torn):
    with EventLog(tmp_path) as log:
        log.append("r", "tags", {"a": "1"})
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(torn)

    with EventLog(tmp_path) as log:
        log.append("r", "tags", {"b": "2"})
        assert [dict(event.content) for event in log.events()] == [{"a": "1"}, {"b": "2"}]


def test_threads_may_append_together(tmp_path):
    with EventLog(tmp_path) as log:

        def write(worker):
            for step in range(50):
                log.append("r", "metrics", {"worker": worker, "step": step})

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        events = list(log.events())

    assert len(events) == 200
    for worker in range(4):
        assert [e.content["step"] for e in events if e.content["worker"] == worker] == list(range(50))


@pytest.mark.parametrize(
    "line", [b'{"id":0}', b"", b"\xff\x00", b"[1]", b'{"time":1,"run_id":"r","kind":"t","content":3}']
)
def test_a_damaged_line_is_an_event_of_its_own_kind_and_hides_no_other(tmp_path, line):
    with EventLog(tmp_path) as log:
        log.append("r", "tags", {"a": "1"})
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(line + b"\n")

    with EventLog(tmp_path) as log:
        log.append("r", "tags", {"b": "2"})
        assert [event.kind for event in log.events()] == ["tags", DAMAGED, "tags"]


def test_an_offset_past_the_end_is_refused(tmp_path):
    with EventLog(tmp_path) as log:
        log.append("r", "tags", {})
        log.mark_delivered(10_000)

    with pytest.raises(TrackingError, match="10000"):
        EventLog(tmp_path)


_HOLDER = """
import sys, pathlib
from trainer.tracking.event_log import EventLog
with EventLog(pathlib.Path(sys.argv[1])):
    print("open", flush=True)
    input()
"""


def test_a_log_that_another_process_writes_is_locked_until_that_ends(tmp_path):
    assert not is_locked(tmp_path)
    command = [sys.executable, "-c", _HOLDER, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert is_locked(tmp_path)
        for _ in range(2):  # a failed attempt leaves no descriptor whose closing would matter
            with pytest.raises(TrackingError, match=tmp_path.name):
                EventLog(tmp_path)
        assert is_locked(tmp_path)
        other.communicate(b"\n")
    assert not is_locked(tmp_path)


def test_files_of_an_older_version_are_renamed_by_the_owner_of_their_lock_only(tmp_path):
    for name in ("spool.jsonl", "spool.offset"):
        (tmp_path / name).write_bytes(b"")
    code = "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); print(); input()"
    command = [sys.executable, "-c", code, tmp_path / "spool.offset"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as older:
        older.stdout.readline()
        assert is_locked(tmp_path)
        with pytest.raises(TrackingError, match=tmp_path.name):
            EventLog(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["spool.jsonl", "spool.offset"]
        older.communicate(b"\n")
    with EventLog(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "events.offset"]


def test_a_log_that_cannot_be_opened_keeps_no_descriptor(tmp_path):
    (tmp_path / "events.offset").write_text("x" * 20)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(TrackingError, match="byte offset"):
            EventLog(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_disk_that_fills_up_is_an_error_and_leaves_whole_lines(tmp_path, monkeypatch):
    write = os.write
    free = 300

    def write_what_fits(descriptor, data):
        nonlocal free
        if free == 0:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[:free])
        free -= written
        return written

    monkeypatch.setattr("trainer.tracking.event_log.os.write", write_what_fits)
    with EventLog(tmp_path / "r1") as log:
        with contextlib.suppress(TrackingError):
            for step in range(100):
                log.append("r", "tags", {"step": step})
        with pytest.raises(TrackingError, match=r"No space left.*resume=r1"):
            log.append("r", "tags", {"step": 100})
        steps = [event.content["step"] for event in log.events()]
    assert steps == list(range(len(steps)))
    assert len(steps) > 2
    assert (tmp_path / "r1" / "events.jsonl").read_bytes().endswith(b"\n")


def test_an_output_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "runs").write_text("")

    with pytest.raises(TrackingError, match="Cannot write"):
        EventLog(tmp_path / "runs" / "r1")


def test_refused_operations_are_kept_with_their_reason(tmp_path):
    with EventLog(tmp_path) as log:
        log.append("r", "tags", {"a": "1"})
        log.reject([next(log.events())], "too long")

    kept = json.loads((tmp_path / "events.rejected.jsonl").read_text())
    assert kept["reason"] == "too long"
    assert kept["content"] == {"a": "1"}


def test_the_latest_run_is_the_one_written_last(tmp_path):
    for name in ("a", "b", "c"):
        with EventLog(tmp_path / name) as log:
            log.append(name, "open", {})
    with EventLog(tmp_path / "a") as log:
        log.append("a", "tags", {})

    assert [folder.name for folder in find_event_logs(tmp_path)] == ["b", "c", "a"]
    assert find_event_logs(tmp_path / "b") == [tmp_path / "b"]


@pytest.mark.parametrize("files", [[], ["events.offset"], ["events.offset", "events.jsonl"]])
def test_a_process_that_is_killed_at_once_leaves_a_run_folder(tmp_path, files):
    folder = tmp_path / ("a" * 32)
    folder.mkdir()
    for name in files:
        (folder / name).touch()

    assert find_event_logs(tmp_path) == [folder]


def test_other_folders_are_no_run_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / ("b" * 32)).mkdir()
    (tmp_path / ("b" * 32) / "notes.txt").touch()

    assert find_event_logs(tmp_path) == []


class TestReadMetrics:
    def test_of_a_run_that_has_not_begun_there_are_none(self, tmp_path):
        assert read_metrics(tmp_path / "r", 0) == ([], 0)
        assert not has_event_log(tmp_path / "r")

    def test_gives_groups_in_order_and_where_to_go_on(self, tmp_path):
        with EventLog(tmp_path) as log:
            log.append("r", "params", {"params": {"a": "1"}})
            log.append("r", "metrics", {"metrics": {"a": 1.5, "b": 2.0}, "step": 1})
            groups, offset = read_metrics(tmp_path, 0)  # while its owner has it
            assert groups == [{"a": 1.5, "b": 2.0}]
            assert offset == log.size
            assert read_metrics(tmp_path, offset) == ([], offset)
            log.append("r", "metrics", {"metrics": {"a": 3.0}, "step": 2})
            assert read_metrics(tmp_path, offset) == ([{"a": 3.0}], log.size)
        assert has_event_log(tmp_path)

    @settings(max_examples=30)
    @given(
        values=st.lists(st.dictionaries(st.text(), st.floats(allow_nan=False), max_size=3), min_size=1, max_size=6),
        cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    )
    def test_a_log_that_grows_by_parts_of_lines_gives_each_group_once(self, tmp_path_factory, values, cuts):
        whole, growing = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("growing")
        with EventLog(whole) as log:
            for value in values:
                log.append("r", "metrics", {"metrics": value, "step": 1})
                log.append("r", "tags", {"\u00e9": "\n"})
        rest, found, offset = (whole / "events.jsonl").read_bytes(), [], 0
        for cut in [*cuts, len(rest)]:
            with (growing / "events.jsonl").open("ab") as file:
                file.write(rest[:cut])
            rest = rest[cut:]
            groups, offset = read_metrics(growing, offset)
            found += groups
        assert found == values
        assert offset == (whole / "events.jsonl").stat().st_size


def test_events_of_a_log_are_read_without_damaged_lines(tmp_path):
    with EventLog(tmp_path) as log:
        log.append("r", "metrics", {"metrics": {"a": 1.0}, "step": 3})
        log.append("r", "tags", {"tags": {"x": "y"}})
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"kind": "metrics"}\nhalf a line')
    found = read_finished(tmp_path)
    assert [event.kind for event in found] == ["metrics", "tags"]
    assert found[0].content == {"metrics": {"a": 1.0}, "step": 3}
    assert read_finished(tmp_path / "none") == []
