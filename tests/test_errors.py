import numpy as np
import pytest

from numbacnn import errors
from numbacnn.ops._check import (
    check_choice,
    check_float,
    check_integer,
    check_per_axis,
    check_same_dtype,
    check_tensor_like,
)

BUILT_IN = {
    errors.ShapeError: ValueError,
    errors.DTypeError: TypeError,
    errors.OptionError: ValueError,
    errors.StateDictError: ValueError,
    errors.CheckpointError: ValueError,
    errors.GradientError: RuntimeError,
}


@pytest.mark.parametrize(("ours", "built_in"), BUILT_IN.items())
def test_every_error_is_ours_and_a_built_in(ours, built_in):
    assert issubclass(ours, errors.NumbacnnError)
    assert issubclass(ours, built_in)
    assert set(BUILT_IN) == set(errors.NumbacnnError.__subclasses__())


def test_padding_warning_is_a_user_warning():
    assert issubclass(errors.PaddingWarning, UserWarning)
    assert issubclass(errors.MeasurementWarning, UserWarning)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_pass_uncopied(dtype):
    x = np.zeros((2, 3), dtype)[:, ::2]
    assert check_float("x", x) is x


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "bool", "float16"])
def test_other_numbers_are_refused_with_a_hint(dtype):
    with pytest.raises(
        errors.DTypeError, match=rf"x must be float32 or float64, got {dtype}; .*x\.astype\(np\.float32\)"
    ):
        check_float("x", np.zeros(3, dtype))


@pytest.mark.parametrize("dtype", ["complex64", "O", "U3", "datetime64[s]"])
def test_what_is_no_number_is_refused_without_a_hint(dtype):
    with pytest.raises(errors.DTypeError, match=r"x must be float32 or float64, got \S+$"):
        check_float("x", np.zeros(3, dtype))


def test_foreign_byte_order_is_named():
    with pytest.raises(errors.DTypeError, match="got float32 in foreign byte order"):
        check_float("x", np.zeros(3, np.dtype(np.float32).newbyteorder()))


def test_masked_arrays_are_refused():
    with pytest.raises(errors.DTypeError, match=r"x is a masked array.*x\.filled"):
        check_float("x", np.ma.zeros(3))


def test_lists_and_subclasses_become_arrays():
    assert check_float("x", [1.0, 2.0]).dtype == np.float64
    matrix = np.zeros((2, 2)).view(type("Sub", (np.ndarray,), {}))
    assert type(check_tensor_like("x", matrix)) is np.ndarray


def test_mixed_dtypes_name_both():
    single, double = np.zeros(2, np.float32), np.zeros(2)
    assert check_same_dtype(x=single, weight=single, bias=None) == np.float32
    with pytest.raises(errors.DTypeError, match=r"x is float64 but bias is float32; .*bias\.astype\(np\.float64\)"):
        check_same_dtype(x=double, weight=double, bias=single)
    with pytest.raises(TypeError, match="at least one"):
        check_same_dtype(bias=None)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None, np.float32(1), np.zeros(2, int), [1]])
def test_only_integers_are_integers(value):
    with pytest.raises(errors.OptionError, match="groups must be an integer, got"):
        check_integer("groups", value, 1)


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_every_kind_of_integer_is_welcome(value):
    assert type(check_integer("groups", value, 1)) is int
    assert check_per_axis("stride", value, 2, 1) == (3, 3)
    assert check_per_axis("stride", [value, 1], 2, 1) == (3, 1)


@pytest.mark.parametrize("value", [0, -1, (1, 0), np.int64(-4)])
def test_too_small_is_said(value):
    with pytest.raises(errors.OptionError, match="stride must be at least 1, got "):
        check_per_axis("stride", value, 2, 1)


@pytest.mark.parametrize(("value", "rank"), [((1, 2), 3), ((), 1), ([1, 2], 1), (np.ones(4, int), 2)])
def test_wrong_number_of_axes_is_said(value, rank):
    with pytest.raises(
        errors.OptionError, match=rf"stride must be an integer or {rank} integers?, one per spatial axis"
    ):
        check_per_axis("stride", value, rank, 1)


@pytest.mark.parametrize("value", ["max", None, 3, ["mean"]])
def test_choices_are_listed(value):
    assert check_choice("reduction", "sum", ["mean", "sum"]) == "sum"
    with pytest.raises(errors.OptionError, match="reduction must be one of 'mean', 'sum'; got"):
        check_choice("reduction", value, ["mean", "sum"])
