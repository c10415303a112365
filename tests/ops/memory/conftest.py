import pytest

from numbacnn.ops.memory import memory_stats, release_memory, set_memory_limit


@pytest.fixture
def _guard_memory():
    """These tests look at the pool itself, as it is without guard zones."""


@pytest.fixture(autouse=True)
def _clean_pool(_guard_memory):
    limit = memory_stats().limit_bytes
    release_memory()
    yield
    set_memory_limit(limit)
