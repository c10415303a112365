import pytest

from tests.ops.conv.plans import forget_plans


@pytest.fixture
def tune(monkeypatch):
    """Sets tuning numbers of a module, with no plan made before or left behind."""

    def set_numbers(module, **numbers):
        for name, value in numbers.items():
            monkeypatch.setattr(module, name, value)
        forget_plans()

    yield set_numbers
    forget_plans()
