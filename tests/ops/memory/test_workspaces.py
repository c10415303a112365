"""Workspaces that calls borrow and give back."""

from numbacnn.ops.memory import borrow, give_back, memory_stats, release_memory, set_memory_limit


def test_borrowers_get_the_workspace_that_was_returned_last():
    before = memory_stats().in_use_bytes
    first, second = borrow(10_000), borrow(20_000)
    assert (first.address | second.address) % 64 == 0
    assert memory_stats().in_use_bytes - before == first.size + second.size
    give_back(first)
    give_back(second)
    assert (memory_stats().in_use_bytes, memory_stats().idle_bytes) == (before, first.size + second.size)
    assert borrow(5000) is second
    assert borrow(10_000) is first
    give_back(first)
    larger = borrow(50_000)
    assert larger not in (first, second)
    give_back(larger)
    give_back(second)
    release_memory()
    assert (memory_stats().in_use_bytes, memory_stats().idle_bytes) == (before, 0)


def test_workspaces_count_as_idle():
    set_memory_limit(1 << 20)
    give_back(borrow(2 << 20))
    assert memory_stats().idle_bytes == 0
    give_back(borrow(1 << 19))
    assert memory_stats().idle_bytes == 1 << 19
    set_memory_limit(0)
    assert memory_stats().idle_bytes == 0
