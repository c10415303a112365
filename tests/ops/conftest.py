import pytest


@pytest.fixture(autouse=True)
def _guard_memory(guarded):
    """Every test of an op also checks that its kernels stay inside their arrays."""
