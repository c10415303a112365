"""Benchmarks: `compare.py` sets numbacnn beside other libraries, `bench_*.py` is the pytest-benchmark suite."""
