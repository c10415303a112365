"""Switching recording off and on: blocks, decorators, generators, threads."""

import threading

import pytest

import numbacnn as nc


def test_no_grad_as_context_decorator_and_bare_decorator():
    x = nc.Tensor([1.0], requires_grad=True)

    @nc.no_grad()
    def called(x):
        return x * 2

    @nc.no_grad
    def bare(x):
        return x * 2

    with nc.no_grad():
        assert not nc.is_grad_enabled()
        assert not (x * 2).requires_grad
        with nc.enable_grad():
            assert (x * 2).requires_grad
        assert not nc.is_grad_enabled()
    assert nc.is_grad_enabled()
    assert not called(x).requires_grad
    assert not bare(x).requires_grad
    assert bare.__name__ == "bare"
    assert nc.is_grad_enabled()


def test_modes_are_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), nc.no_grad():
        raise ZeroDivisionError
    assert nc.is_grad_enabled()


def test_one_instance_may_be_entered_again():
    mode = nc.no_grad()
    with mode, mode:
        pass
    with mode:
        assert not nc.is_grad_enabled()
    assert nc.is_grad_enabled()


def test_a_decorated_generator_switches_only_while_it_runs():
    @nc.no_grad()
    def generate():
        for _ in range(2):
            yield nc.is_grad_enabled()

    assert [(inside, nc.is_grad_enabled()) for inside in generate()] == [(False, True)] * 2


def test_modes_belong_to_threads():
    seen = []
    with nc.no_grad():
        thread = threading.Thread(target=lambda: seen.append(nc.is_grad_enabled()))
        thread.start()
        thread.join()
        assert not nc.is_grad_enabled()
    assert seen == [True]
