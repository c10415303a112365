"""The engine: order, accumulation, freeing, ownership of gradient arrays, depth, threads."""

import gc
import threading
import weakref

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.autograd import apply
from numbacnn.errors import GradientError, ShapeError


def leaf(values, dtype=np.float64):
    return nc.Tensor(np.asarray(values, dtype), requires_grad=True)


def passing(x, backward=lambda grad, needs: (grad,), name="passing"):
    """An operation that returns its input, with the backward given."""
    return apply(name, (x,), x.data, backward)


# ------------------------------------------------------------------------------------------------- the walk back


def test_gradients_of_shared_tensors_add_up():
    x = leaf([2.0, 3.0])
    y = x * x
    (y + y * x + x).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data + 3 * x.data**2 + 1)


def test_every_node_is_pulled_once_however_many_paths_lead_to_it():
    calls = []

    def backward(grad, needs):
        calls.append(grad.copy())
        return (grad,)

    x = leaf([1.0])
    y = passing(x, backward)
    for _ in range(20):  # a million paths
        y = y + y
    y.backward(np.ones(1))
    assert x.grad == 2.0**20
    assert len([grad for grad in calls if grad == 2.0**20]) == 1
    assert len(calls) == 1


def test_backward_accumulates_until_the_gradient_is_reset():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, 6 * x.data)
    x.zero_grad()
    assert x.grad is None


def test_backward_of_a_leaf_adds_the_gradient_itself():
    x = leaf([1.0, 2.0])
    seed = np.array([3.0, 4.0])
    x.backward(seed)
    x.backward(nc.Tensor(seed))
    np.testing.assert_array_equal(x.grad, 2 * seed)
    np.testing.assert_array_equal(seed, [3.0, 4.0])


def test_needs_tells_which_gradients_are_wanted():
    seen = []

    def backward(grad, needs):
        seen.append(needs)
        return None, grad, None

    x, y, z = nc.Tensor([1.0]), leaf([2.0]), leaf([3.0])
    apply("three", (x, y, z), y.data, backward).backward()
    assert seen == [(False, True, True)]
    assert x.grad is None
    assert y.grad == 1.0
    assert z.grad is None


def test_the_gradient_is_cast_to_the_dtype_of_the_tensor():
    x = leaf([1.0, 2.0], np.float32)
    (x * 2).backward([1, 1])
    assert x.grad.dtype == np.float32


def test_nothing_is_recorded_without_need():
    x = nc.Tensor([1.0])
    closure = weakref.ref(backward := lambda grad, needs: (grad,))
    y = passing(x, backward)
    del backward
    assert not y.requires_grad
    assert y.is_leaf
    assert closure() is None


# ----------------------------------------------------------------------------------------------------- refusals


def test_backward_of_several_elements_needs_a_gradient():
    with pytest.raises(GradientError, match=r"shape \(2,\) needs a gradient of that shape.*\.sum\(\)"):
        (leaf([1.0, 2.0]) * 2).backward()


def test_backward_of_a_tensor_without_graph():
    with pytest.raises(GradientError, match="does not require a gradient"):
        nc.Tensor([1.0]).backward()


def test_backward_with_a_gradient_of_another_shape():
    with pytest.raises(ShapeError, match=r"shape \(3,\) does not fit the tensor of shape \(2,\)"):
        (leaf([1.0, 2.0]) * 2).backward(np.ones(3))


def test_closures_must_return_gradients_of_the_right_shape_and_number():
    with pytest.raises(ShapeError, match=r"'wrong' returned a gradient of shape \(2,\) for an input of shape \(1,\)"):
        passing(leaf([1.0]), lambda grad, needs: (np.ones(2),), "wrong").backward()
    with pytest.raises(GradientError, match="'wrong' returned 2 gradients for 1 inputs"):
        passing(leaf([1.0]), lambda grad, needs: (grad, grad), "wrong").backward()


def test_backward_twice_says_how():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GradientError, match="retain_graph=True"):
        y.backward()


def test_retain_graph():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad, 4 * x.data)


def test_two_losses_over_one_trunk():
    x = leaf([1.0, 2.0])
    trunk = x * x
    first, second = trunk.sum(), (trunk * 3).sum()
    first.backward(retain_graph=True)
    second.backward()
    np.testing.assert_array_equal(x.grad, 8 * x.data)


# -------------------------------------------------------------------------- parameters changed after the forward pass


def _optimiser_step(parameter):
    parameter.data[...] -= 0.1
    parameter.mark_changed()


def _assignment(parameter):
    parameter.data = parameter.data + 1


def _in_place_operator(parameter):
    with nc.no_grad():
        parameter -= 0.1


def _item_assignment(parameter):
    with nc.no_grad():
        parameter[0] = 7.0


@pytest.mark.parametrize("change", [_optimiser_step, _assignment, _in_place_operator, _item_assignment])
def test_a_changed_parameter_stops_backward(change):
    parameter = nc.Parameter([1.0, 2.0])
    loss = (parameter * parameter).sum()
    change(parameter)
    with pytest.raises(GradientError, match="changed after the forward pass"):
        loss.backward()
    (parameter * parameter).sum().backward()  # a new forward pass is fine


def test_load_state_dict_counts_as_a_change():
    layer = nc.nn.Conv1d(1, 1, 1)
    loss = (layer.weight * layer.weight).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(GradientError, match="load_state_dict"):
        loss.backward()


def test_several_backwards_before_one_change_are_fine():
    parameter = nc.Parameter([1.0, 2.0])
    losses = [(parameter * factor).sum() for factor in (1, 2, 3)]
    for loss in losses:
        loss.backward()
    np.testing.assert_array_equal(parameter.grad, [6.0, 6.0])
    _optimiser_step(parameter)


# -------------------------------------------------------------------------------------- who owns gradient arrays


def test_gradients_of_different_leaves_never_share_memory():
    x, y = leaf(np.ones(4)), leaf(np.ones(4))
    seed = np.ones(4)
    (x + y).backward(seed)
    assert not np.may_share_memory(x.grad, y.grad)
    assert not np.may_share_memory(x.grad, seed)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum(),
        lambda x: x.reshape(2, 2).sum(),
        lambda x: nc.functional.concatenate([x, x]).sum(),
        lambda x: nc.functional.broadcast_to(x, (3, 4)).sum(),
        lambda x: nc.functional.stack([x, x * 2]).sum(),
        lambda x: (x + x).sum() + x.sum(),
        lambda x: x[1:3].sum() + x.flatten().sum(),
    ],
)
def test_gradients_are_writable_and_private(function):
    x = leaf(np.arange(4.0))
    function(x).backward()
    first = x.grad.copy()
    assert x.grad.flags.writeable
    assert x.grad.flags.c_contiguous
    function(x).backward()
    np.testing.assert_array_equal(x.grad, 2 * first)


@pytest.mark.parametrize("owner", [np.ones(4), bytearray(np.ones(4).tobytes())], ids=["array", "buffer"])
def test_memory_that_two_results_share_is_found_whoever_owns_it(owner):
    """Two views of one array, or two arrays over one buffer of somebody else's."""
    x, y = leaf(np.ones(4)), leaf(np.ones(4))
    view = owner.view if isinstance(owner, np.ndarray) else lambda: np.frombuffer(owner)
    apply("shares", (x, y), np.ones(4), lambda grad, needs: (view(), view())).backward(np.ones(4))
    assert not np.may_share_memory(x.grad, y.grad)
    x.grad += 1
    assert y.grad.tolist() == [1, 1, 1, 1]


def test_adding_gradients_never_writes_into_an_array_that_is_still_read():
    # The two operands of the sum get the same array; the sum at x must not change what the other branch still reads.
    x = leaf(np.ones(3))
    y = x * 1
    seen = []

    def backward(grad, needs):
        seen.append(grad.copy())
        return (grad,)

    z = passing(y, backward)
    w = passing(y, backward)
    (z + w + y).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full(3, 3.0))
    np.testing.assert_array_equal(seen, np.ones((2, 3)))


def test_a_fresh_result_is_kept_without_a_copy():
    fresh = []

    def backward(grad, needs):
        fresh.append(grad * 2)
        return (fresh[0],)

    x = leaf([1.0, 2.0])
    passing(x, backward).backward(np.ones(2))
    assert x.grad is fresh[0]


def test_gradients_can_be_added_to_a_read_only_one():
    x = leaf([1.0, 2.0])
    x.grad = np.broadcast_to(1.0, (2,))
    x.sum().backward()
    np.testing.assert_array_equal(x.grad, [2.0, 2.0])


# ---------------------------------------------------------------------------------------------------------- memory


class Watched(np.ndarray):
    """An array that can be referred to weakly."""


def test_what_a_closure_saved_dies_as_soon_as_it_has_been_used():
    alive = []

    def saving(x):
        saved = np.zeros(3).view(Watched)
        alive.append(weakref.ref(saved))
        dead_before = len(alive)

        def backward(grad, needs):
            # Everything recorded later has been freed by now, without the help of the garbage collector.
            assert all(reference() is None for reference in alive[dead_before:])
            return (grad + saved,)

        return passing(x, backward)

    gc.disable()
    try:
        x = leaf(np.ones(3))
        y = x
        for _ in range(10):
            y = saving(y)
        y.backward(np.ones(3))
        assert all(reference() is None for reference in alive)
    finally:
        gc.enable()


def test_activations_that_no_closure_saved_are_not_kept():
    x = leaf(np.ones(3))
    hidden = passing(x)
    reference = weakref.ref(hidden)
    out = passing(hidden)
    del hidden
    assert reference() is None
    out.backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, np.ones(3))


LENGTH = 100_000


def _chain():
    """A leaf, the end of a long chain of operations on it, and references to their closures."""
    x = leaf(np.ones(1))
    y, closures = x, []
    for _ in range(LENGTH):
        closures.append(weakref.ref(backward := lambda grad, needs: (grad,)))
        y = passing(y, backward)
    return x, y, closures


def _dead(references):
    return sum(reference() is None for reference in references)


def test_backward_through_a_hundred_thousand_operations():
    x, y, closures = _chain()
    y.backward()
    assert x.grad == 1.0
    assert _dead(closures) == LENGTH


def test_a_long_chain_dies_without_overflowing_the_stack():
    _, y, closures = _chain()
    assert _dead(closures) == 0
    del y  # by counting references
    assert _dead(closures) == LENGTH


def test_a_long_chain_in_a_cycle_dies_without_overflowing_the_stack():
    _, y, closures = _chain()
    cycle = [y]
    cycle.append(cycle)
    del y, cycle
    assert _dead(closures) == 0
    gc.collect()
    assert _dead(closures) == LENGTH


def test_long_chains_die_in_a_thread_with_a_small_stack():
    died = []

    def work():
        _, y, closures = _chain()
        del y
        died.append(_dead(closures))

    old = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert died == [LENGTH]


# ------------------------------------------------------------------------------------------------- threads, retaining


def test_threads_may_share_parameters():
    parameter = nc.Parameter(np.zeros(1000, np.float64))

    def work():
        for _ in range(200):
            (parameter * 1.0).sum().backward()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.testing.assert_array_equal(parameter.grad, np.full(1000, 800.0))


def test_retain_grad():
    x = leaf([1.0, 2.0])
    y = x * 3
    z = x * 5
    y.retain_grad()
    (y * y + z).sum().backward()
    np.testing.assert_array_equal(y.grad, 2 * y.data)
    assert z.grad is None
    with pytest.raises(GradientError, match="does not require"):
        nc.Tensor([1.0]).retain_grad()
