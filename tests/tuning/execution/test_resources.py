"""Cores and GPUs of a machine, divided between workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.core.errors import SettingsError
from tuning.execution import resources
from tuning.execution.resources import ResourcePool, Resources, assign, assign_machine, gpu_names


def cores(number):
    return list(range(number))


def gpus(number):
    return [str(place) for place in range(number)]


@pytest.mark.parametrize(
    ("num_cores", "num_gpus", "workers", "processes", "expected"),
    [
        (1, 0, "auto", "auto", [((0,), None)]),
        (2, 0, "auto", "auto", [((0,), None), ((1,), None)]),
        (16, 0, "auto", "auto", [(tuple(range(start, start + 4)), None) for start in (0, 4, 8, 12)]),
        (3, 0, "2", "auto", [((0,), None), ((1, 2), None)]),
        (4, 0, "auto", "2", [((0, 1), None), ((2, 3), None)]),
        (2, 0, "auto", "8", [((0, 1), None)]),
        (8, 1, "auto", "auto", [(tuple(range(8)), ("0",))]),
        (8, 2, "auto", "auto", [((0, 1, 2, 3), ("0",)), ((4, 5, 6, 7), ("1",))]),
        (4, 2, "4", "auto", [((0,), ("0",)), ((1,), ("1",)), ((2,), ("0",)), ((3,), ("1",))]),
        (4, 4, "2", "auto", [((0, 1), ("0", "1")), ((2, 3), ("2", "3"))]),
        (8, 4, "auto", "2", [((0, 1, 2, 3), ("0", "1")), ((4, 5, 6, 7), ("2", "3"))]),
        (4, 3, "auto", "2", [((0, 1, 2, 3), ("0", "1", "2"))]),
        (2, 8, "auto", "auto", [((0,), ("0", "1", "2", "3")), ((1,), ("4", "5", "6", "7"))]),
    ],
)
def test_parts_are_these(num_cores, num_gpus, workers, processes, expected):
    found = assign(cores(num_cores), gpus(num_gpus), workers, processes)
    assert [(part.cores, part.gpus) for part in found] == expected


@pytest.mark.parametrize(
    ("num_cores", "num_gpus", "workers", "processes", "threads"),
    [
        (8, 0, "2", "auto", [4, 4]),
        (7, 0, "2", "auto", [3, 4]),
        (8, 0, "2", "2", [2, 2]),
        (2, 0, "1", "8", [1]),
        (8, 4, "2", "auto", [2, 2]),  # each training has two processes, one for each of its GPUs
        (8, 4, "2", "1", [4, 4]),
        (8, 2, "4", "auto", [2, 2, 2, 2]),
    ],
)
def test_cores_are_shared_out_between_the_processes_of_a_training(num_cores, num_gpus, workers, processes, threads):
    assert [part.threads for part in assign(cores(num_cores), gpus(num_gpus), workers, processes)] == threads


@given(
    used=st.lists(st.integers(0, 200), min_size=1, max_size=40, unique=True),
    num_gpus=st.integers(0, 10),
    workers=st.just("auto") | st.integers(1, 40).map(str),
    processes=st.just("auto") | st.integers(1, 10).map(str),
)
def test_parts_are_the_whole_and_do_not_overlap(used, num_gpus, workers, processes):
    each = 1 if processes == "auto" else int(processes)
    try:
        parts = assign(used, gpus(num_gpus), workers, processes)
    except SettingsError:
        asked = 1 if workers == "auto" else int(workers)
        assert asked > len(used) or (each > 1 and asked * each > num_gpus > 0)
        return
    assert workers in ("auto", str(len(parts)))
    assert [core for part in parts for core in part.cores] == used
    sizes = [len(part.cores) for part in parts]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    if num_gpus == 0:
        assert {part.gpus for part in parts} == {None}
        return
    assert {name for part in parts for name in part.gpus} == set(gpus(num_gpus))
    assert all(len(part.gpus) >= each for part in parts)
    if len(parts) <= num_gpus:
        assert sum(len(part.gpus) for part in parts) == num_gpus  # none is shared


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((cores(2), [], "3", "auto"), "`workers` .* 2, got 3"),
        ((cores(8), gpus(2), "2", "2"), "`workers` times `processes` .* 2, got 2 times 2"),
        ((cores(8), gpus(2), "auto", "4"), "`workers` times `processes`"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        assign(*arguments)


class TestGpuNames:
    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ("0,1", ["0", "1"]),
            (" 3 , GPU-8932f937 ", ["3", "GPU-8932f937"]),
            ("", []),
            ("-1", []),
            ("2,-1,3", ["2"]),
        ],
    )
    def test_the_environment_decides(self, given, names, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert gpu_names() == names

    @pytest.mark.parametrize(
        ("script", "names"),
        [
            ("echo 0; echo 1", ["0", "1"]),
            ("echo 'No devices were found'; exit 6", []),
            ("echo 'driver does not answer' >&2; exit 9", []),
            ("true", []),
        ],
    )
    def test_without_the_variable_nvidia_smi_lists_them(self, script, names, tmp_path, monkeypatch):
        program = tmp_path / "nvidia-smi"
        program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n{script}\n')
        program.chmod(0o755)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert gpu_names() == names
        assert "--query-gpu=index" in (tmp_path / "asked").read_text()

    def test_without_it_there_are_none(self, tmp_path, monkeypatch):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert gpu_names() == []


def test_the_machine_is_what_this_process_may_use(monkeypatch):
    monkeypatch.setattr(resources, "available_cores", lambda: [3, 5, 7])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert assign_machine("auto", "auto", ["GPU-a"]) == [Resources((3, 5, 7), ("GPU-a",), threads=3)]
    assert [part.cores for part in assign_machine("auto", "auto", [])] == [(3,), (5,), (7,)]
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert [part.threads for part in assign_machine("auto", "auto", [])] == [2, 2, 2]


def test_the_pool_gives_each_worker_its_own():
    pool = ResourcePool([Resources((0,)), Resources((1,))])
    with pool.take() as first, pool.take() as second:
        assert {first.cores, second.cores} == {(0,), (1,)}
    with pool.take() as again:
        assert again.cores in {(0,), (1,)}
