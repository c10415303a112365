"""How many threads: settings, environment, affinity, quotas."""

from __future__ import annotations

import concurrent.futures
import os

import pytest

from numbacnn import config
from numbacnn.kernels import _launch
from tests.kernels.fresh import BEGIN, run_python, work


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 cores without settings; returns a function that sets environment variables."""
    for name in ("NUMBACNN_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_launch, "_default", None)
    monkeypatch.setattr(_launch, "_global_threads", None)
    monkeypatch.setattr(_launch, "_cgroup_cores", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 16),
        ({"OMP_NUM_THREADS": "4"}, 4),
        ({"OMP_NUM_THREADS": "4,2,1"}, 4),
        ({"NUMBA_NUM_THREADS": "5"}, 5),
        ({"OMP_NUM_THREADS": "6", "NUMBA_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "64"}, 16),
        ({"NUMBACNN_NUM_THREADS": "24", "OMP_NUM_THREADS": "2"}, 24),
        ({"NUMBACNN_NUM_THREADS": "9999"}, _launch.MAX_THREADS),
        ({"NUMBACNN_NUM_THREADS": " 7 "}, 7),
        *(({"NUMBACNN_NUM_THREADS": nonsense}, 16) for nonsense in ("", "0", "-1", "many", "2.5")),
        ({"OMP_NUM_THREADS": "0"}, 16),
    ],
    ids=str,
)
def test_environment(variables, expected, machine):
    machine(**variables)
    assert _launch.get_num_threads() == expected


def test_cgroup_quota_counts(machine, monkeypatch):
    monkeypatch.setattr(_launch, "_cgroup_cores", lambda: 3)
    assert _launch.get_num_threads() == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_counts():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})" + BEGIN
    code += "print(_launch.get_num_threads()); work()"
    assert run_python(code, NUMBACNN_NUM_THREADS=None, OMP_NUM_THREADS=None) == "1"


class TestCgroup:
    """Quotas from files laid out as the kernel does."""

    @pytest.fixture
    def cores(self, tmp_path):
        def cores(membership, files):
            for path, content in files.items():
                place = tmp_path / "fs" / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(content)
            (tmp_path / "cgroup").write_text(membership)
            return _launch._cgroup_cores(str(tmp_path / "fs"), str(tmp_path / "cgroup"))

        return cores

    @pytest.mark.parametrize(
        ("content", "expected"),
        [("max 100000\n", None), ("200000 100000\n", 2), ("250000 100000\n", 3), ("1000 100000\n", 1), ("", None)],
    )
    def test_version_2_in_a_container(self, cores, content, expected):
        assert cores("0::/\n", {"cpu.max": content}) == expected

    def test_version_2_takes_the_least_quota_of_all_parents(self, cores):
        files = {"user.slice/cpu.max": "300000 100000", "user.slice/job/cpu.max": "max 100000"}
        assert cores("0::/user.slice/job\n", files) == 3
        assert cores("0::/user.slice/job\n", {"user.slice/job/cpu.max": "150000 100000"}) == 2
        assert cores("0::/another.slice\n", {}) is None

    @pytest.mark.parametrize(("quota", "expected"), [("-1\n", None), ("400000\n", 4), ("50000\n", 1), ("x", None)])
    def test_version_1(self, cores, quota, expected):
        folder = "cpu/docker/ab"
        files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": "100000\n"}
        assert cores("12:cpu,cpuacct:/docker/ab\n11:memory:/docker/cd\n0::/\n", files) == expected

    def test_version_1_of_another_controller_does_not_count(self, cores):
        files = {"cpu/docker/cpu.cfs_quota_us": "100000", "cpu/docker/cpu.cfs_period_us": "100000"}
        assert cores("11:memory:/docker\n", files) is None

    def test_no_files_at_all(self, tmp_path):
        assert _launch._cgroup_cores(str(tmp_path / "nothing"), str(tmp_path / "none")) is None


def test_setting_the_number_of_threads(machine):
    machine(NUMBACNN_NUM_THREADS="5")
    assert config.get_num_threads() == 5
    config.set_num_threads(3)
    assert config.get_num_threads() == 3
    with config.threads(7):
        assert config.get_num_threads() == 7
        with pytest.raises(KeyError), config.threads(2):  # an error leaves nothing behind
            raise KeyError
        assert config.get_num_threads() == 7
    assert config.get_num_threads() == 3


@pytest.mark.parametrize("wrong", [0, -1, 257, 1 << 70])
def test_numbers_out_of_range(wrong):
    for setter in (config.set_num_threads, lambda n: config.threads(n).__enter__()):
        with pytest.raises(ValueError, match=f"number of threads must be from 1 to 256, got {wrong}"):
            setter(wrong)


@pytest.mark.parametrize("wrong", [1.0, "2", None, True])
def test_what_is_no_number(wrong):
    for setter in (config.set_num_threads, lambda n: config.threads(n).__enter__()):
        with pytest.raises(TypeError, match=f"number of threads must be an integer, got {wrong!r}"):
            setter(wrong)


def test_unknown_driver():
    with pytest.raises(ValueError, match="driver must be one of serial, own, numba; got 'tbb'"), _launch.driver("tbb"):
        pass


def in_thread(function):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result(timeout=60)


def test_another_python_thread_gets_one_thread_unless_it_asks():
    with config.threads(4):
        assert in_thread(config.get_num_threads) == 1

    def asks():
        with config.threads(3):
            return config.get_num_threads()

    assert in_thread(asks) == 3
    assert in_thread(work) == 0
