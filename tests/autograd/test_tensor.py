"""Tensor and Parameter as Python and NumPy objects."""

import copy
import pickle

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.errors import DTypeError, GradientError, NumbacnnError, ShapeError


def test_arrays_are_shared_and_keep_their_dtype():
    for dtype in (np.float32, np.float64, np.float16, np.int64, np.uint8, bool):
        array = np.ones(3, dtype)
        tensor = nc.Tensor(array)
        assert tensor.data is array
        assert tensor.numpy() is array
        assert np.asarray(tensor) is array


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, np.float32),
        ([1.0, 2.0], np.float32),
        ([[1, 2.5]], np.float32),
        ([1, 2], np.int64),
        ([True], np.bool_),
        ([], np.float32),
        (np.float64(1.5), np.float64),
        ([np.ones(2), np.zeros(2)], np.float64),
    ],
)
def test_dtype_of_python_numbers(data, dtype):
    assert nc.Tensor(data).dtype == dtype
    assert nc.tensor(data).dtype == dtype


def test_tensor_copies():
    array = np.ones(3)
    assert not np.may_share_memory(nc.tensor(array).data, array)
    assert nc.tensor(nc.Tensor(array), dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize("data", [["a"], [1j], np.array([object()]), np.array(["2020"], "M8[D]")])
def test_only_numbers(data):
    with pytest.raises(DTypeError, match="bools, integers or floats"):
        nc.Tensor(data)


def test_masked_arrays_are_refused():
    with pytest.raises(DTypeError, match="filled"):
        nc.Tensor(np.ma.masked_array([1.0], [True]))


def test_foreign_byte_order_is_converted():
    tensor = nc.Tensor(np.array([1.0, 2.0], ">f4"))
    assert tensor.dtype.isnative
    assert tensor.tolist() == [1.0, 2.0]


def test_integers_cannot_require_a_gradient():
    for make in (lambda: nc.Tensor([1, 2], requires_grad=True), lambda: nc.Parameter([1, 2])):
        with pytest.raises(DTypeError, match=r"int64.*astype\(np\.float32\)"):
            make()
    parameter = nc.Parameter([1.0])
    with pytest.raises(DTypeError):
        parameter.data = [1, 2]


def test_requires_grad_of_a_computed_tensor():
    y = nc.Tensor([1.0], requires_grad=True) * 2
    with pytest.raises(GradientError, match="detach"):
        y.requires_grad = False
    assert not y.detach().requires_grad
    assert y.detach().data is y.data


def test_attributes():
    x = nc.Tensor(np.zeros((2, 3), np.float32))
    assert (x.shape, x.ndim, x.dtype, x.nbytes, x.numel(), len(x)) == ((2, 3), 2, np.float32, 24, 6, 2)
    assert x.is_leaf
    assert x.requires_grad_() is x
    assert x.requires_grad


def test_assigning_data_of_another_shape_drops_the_gradient():
    x = nc.Tensor([1.0, 2.0], requires_grad=True)
    x.sum().backward()
    x.data = np.zeros(2, np.float32)
    assert x.grad is not None
    x.data = np.zeros(3, np.float32)
    assert x.grad is None


def test_scalars():
    x = nc.Tensor([[2.5]])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert [10, 20, 30][nc.Tensor(1)] == 20
    with pytest.raises(ShapeError, match=r"one element.*\(2,\)"):
        nc.Tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(nc.Tensor([1.0, 2.0]))


def test_iteration():
    assert [row.tolist() for row in nc.Tensor([[1.0], [2.0]])] == [[1.0], [2.0]]
    with pytest.raises(TypeError, match="len"):
        len(nc.Tensor(1.0))
    with pytest.raises(TypeError, match="iteration"):
        iter(nc.Tensor(1.0))


def test_comparisons_give_plain_arrays():
    x = nc.Tensor([1.0, 2.0, 3.0])
    for result, expected in (
        (x == 2, [False, True, False]),
        (x != 2, [True, False, True]),
        (x < x.data[1], [True, False, False]),
        (x <= nc.Tensor([2.0]), [True, True, False]),
        (x > 2, [False, False, True]),
        (x >= 2, [False, True, True]),
    ):
        assert type(result) is np.ndarray
        assert result.tolist() == expected
    assert len({x, nc.Tensor([1.0, 2.0, 3.0])}) == 2


def test_repr():
    x = nc.Tensor([1.0, 2.0], requires_grad=True)
    assert repr(x) == "Tensor([1., 2.], dtype=float32, requires_grad=True)"
    assert repr(x * 2) == "Tensor([2., 4.], dtype=float32, from=mul)"
    assert repr(nc.Tensor([1])) == "Tensor([1], dtype=int64)"


def test_numpy_functions_do_not_drop_gradients_silently():
    x = nc.Tensor([1.0], requires_grad=True)
    with pytest.raises(TypeError, match="ufunc"):
        np.exp(x)
    assert (np.ones(1, np.float32) * x).requires_grad
    assert (np.float64(2) * x).dtype == np.float32
    assert (np.ones((1, 1), np.float32) @ x).requires_grad


def test_array_protocol():
    x = nc.Tensor([1.0, 2.0])
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.array(x) is not x.data
    np.testing.assert_array_equal(x, [1.0, 2.0])


def test_in_place_operators():
    x = nc.Parameter([1.0, 2.0])
    memory = x.data
    with pytest.raises(GradientError, match="no_grad"):
        x += 1
    same = x
    with nc.no_grad():
        x += 1
        x *= 2
        x -= 1
        x /= 1
    assert x is same
    assert x.data is memory
    assert memory.tolist() == [3.0, 5.0]


def test_in_place_operators_rebind_other_tensors():
    x = y = nc.Tensor([1.0])
    y += 1
    assert (x.tolist(), y.tolist()) == ([1.0], [2.0])
    z = w = nc.Tensor([1.0], requires_grad=True) * 1
    w += 1
    assert (z.tolist(), w.tolist()) == ([1.0], [2.0])


def test_item_assignment():
    x = nc.Tensor([1.0, 2.0])
    x[0] = 5
    x[nc.Tensor([1])] = nc.Tensor([7.0])
    assert x.tolist() == [5.0, 7.0]
    with pytest.raises(GradientError, match="where"):
        nc.Tensor([1.0], requires_grad=True)[0] = 2


@pytest.mark.parametrize("kind", [nc.Tensor, nc.Parameter])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(kind, duplicate):
    x = kind(np.arange(6.0).reshape(2, 3), requires_grad=True)
    twin = duplicate(x)
    assert type(twin) is kind
    assert twin.requires_grad
    assert not np.may_share_memory(twin.data, x.data)
    np.testing.assert_array_equal(twin.data, x.data)


def test_deepcopy_keeps_the_gradient_and_identity():
    x = nc.Parameter([1.0])
    x.sum().backward()
    first, second = copy.deepcopy([x, x])
    assert first is second
    assert first.grad == x.grad
    assert first.grad is not x.grad


def test_computed_tensors_are_not_copied_without_their_graph():
    y = nc.Tensor([1.0], requires_grad=True) * 2
    with pytest.raises(GradientError, match=r"'mul'.*copied.*detach"):
        copy.deepcopy(y)
    with pytest.raises(GradientError, match="pickled"):
        pickle.dumps(y)
    assert copy.deepcopy(y.detach()).tolist() == [2.0]


@pytest.mark.parametrize(
    "array", [np.ones((3, 4)).T, np.broadcast_to(np.ones(1), (3,)), np.ones(3)[::-1], np.ones(3, ">f8"), np.ones(())]
)
def test_parameters_are_contiguous_and_writable(array):
    parameter = nc.Parameter(array)
    for data in (parameter.data, nc.Parameter(np.ones(1)).data):
        assert data.flags.c_contiguous
        assert data.flags.writeable
        assert data.dtype.isnative
    assert parameter.shape == array.shape
    parameter.data = array
    assert parameter.data.flags.c_contiguous


def test_parameter_shares_a_good_array():
    array = np.ones(3)
    assert nc.Parameter(array).data is array


def test_errors_are_ours():
    assert issubclass(GradientError, NumbacnnError)
