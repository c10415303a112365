import hypothesis
import pytest

# No test asserts a time: on a busy machine, any example may take long.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_configure(config):
    # Cases of the shared table leave border samples unread on purpose; test_geometry_warnings.py covers the warning.
    config.addinivalue_line("filterwarnings", "ignore::numbacnn.errors.PaddingWarning")


@pytest.fixture
def guarded():
    """Catch writes outside arrays of the buffer pool, and, of what runs serially, outside a kernel's scratch.

    Fresh memory holds NaN, so reads of what was never written show, too.
    """
    from numbacnn.kernels import _launch
    from numbacnn.ops.memory import guard_memory
    from tests.kernels.scratch import GuardedScratch

    with pytest.MonkeyPatch.context() as patch, guard_memory():
        patch.setattr(_launch, "_serial", GuardedScratch())
        yield
