import pytest

from bench import memory
from tests.bench.small import make_entry, make_timing


@pytest.fixture
def results():
    only_ours = {
        "numbacnn": make_timing(1e-3),
        "torch": {"refused": "output against float64: 1 instead of 2", "wrong": True},
    }
    return {
        "date": "2024-02-03 04:05",
        "command": "python bench/compare.py --shapes conv",
        "machine": {
            "cpu": "A CPU (AVX2)",
            "cores": "4",
            "system": "Linux x86_64",
            "python": "3.12.1",
            "numpy": "2.0.0",
            "commit": "abc",
        },
        "threads": 2,
        "rounds": 7,
        "memory_method": memory.METHOD,
        "versions": {"numbacnn": "0.1.0", "torch": "2.0"},
        "peak": {"float32": [200.0, 190.0, 204.4]},
        "bandwidth": [],
        "entries": [
            make_entry("a", 1e-3, 2e-3),
            make_entry("a", 1e-3, 1e-3, "backward_data"),
            make_entry("b", 4e-3, 2e-3),
            make_entry("c", 1e-3, 8e-3) | {"ratios": {}, "libraries": only_ours},
        ],
    }
