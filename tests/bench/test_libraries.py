"""Every library gets the same inputs, agrees with the reference, and wrong results are refused."""

import numpy as np
import pytest

from bench import cases, inputs, libraries, reference, validate
from bench.worker import Worker
from tests.bench.small import SMALL


def test_inputs_depend_on_the_case_alone():
    case = cases.parse(SMALL)[0]
    first, again = inputs.make(case, "float32"), inputs.make(case, "float32")
    assert first.keys() == {"x", "weight", "grad_output"}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert inputs.make(case, "float64")["x"].dtype == np.float64


POOL = cases.PoolCase("p", 2, 3, (7, 6), "max", (3, 2), (2, 2), (1, 0))
SEQUENCE_POOL = cases.PoolCase("q", 2, 3, (9,), "avg", (3,), (2,), (1,))
NORM = cases.NormCase("n", 3, 5, (4, 3))
LINEAR = cases.LinearCase("l", 5, 7, 6)
MATMUL = cases.MatmulCase("m", 5, 7, 6)
ACTIVATIONS = [cases.ActivationCase(name, name, 2, 3, (5, 4)) for name in cases.ActivationCase.functions]
VECTORS = cases.ActivationCase("softmax_of_vectors", "softmax", 3, 5, ())
ARITHMETIC = [cases.ArithmeticCase(name, name, 2, 3, (7,)) for name in cases.ArithmeticCase.functions]
ALL_CASES = [
    *cases.parse(SMALL),
    *(POOL, SEQUENCE_POOL, NORM, LINEAR, MATMUL),
    *ACTIVATIONS,
    VECTORS,
    *ARITHMETIC,
]


@pytest.fixture(scope="module", params=["numbacnn", "numpy", "torch", "onnxruntime", "openvino"])
def library(request):
    """Every library in its own process (some change global state); skipped where it is not installed."""
    with Worker(request.param, 2) as worker:
        try:
            worker.ask("version")
        except libraries.Unsupported as reason:
            if request.param == "numbacnn":
                raise
            pytest.skip(str(reason))
        yield worker


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_adapters_agree_with_the_reference(library, case, dtype):
    """Implementations that share nothing, the sampled reference being one of them."""
    for direction in case.directions:
        try:
            variants = library.ask("prepare", case, direction, dtype)
        except libraries.Unsupported:
            assert library.library != "numbacnn"
            continue
        expected = reference.sample(case, direction, inputs.make(case, dtype))
        for variant in variants:
            error = validate.check_sample(library.ask("result", variant), expected, dtype)
            assert error <= validate.TOLERANCE[dtype]


def test_reference_is_the_adjoint():
    """backward_data of the reference against forward of im2col: <conv(e_i), g> is the gradient's entry i."""
    for case in cases.parse(SMALL):
        arrays = inputs.make(case, "float64")
        ((index, values),) = reference.sample(case, "backward_data", arrays).values()
        for place, value in zip(zip(*index, strict=True), values, strict=True):
            unit = np.zeros(case.input_shape)
            unit[place] = 1
            forward = libraries.connect("numpy", 1).prepare(case, "forward", arrays | {"x": unit})["contiguous"]
            assert np.vdot(forward(), arrays["grad_output"]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda y: {"output": y * np.float32(1.001)}, "of the largest magnitude, tolerance 1e-04"),
        (lambda y: {"output": np.where(y == y.flat[0], np.nan, y)}, "nan instead of"),
        (lambda y: {"output": y.astype(np.float64)}, "output is float64, not float32"),
        (lambda y: {"output": y[..., :-1]}, "too small for its entries"),
        (lambda y: {"values": y}, r"there is no output among the results \['values'\]"),
    ],
)
def test_wrong_results_are_refused(damage, message):
    case = cases.parse(SMALL)[0]
    arrays = inputs.make(case, "float32")
    result = libraries.connect("numpy", 1).prepare(case, "forward", arrays)["contiguous"]()
    expected = reference.sample(case, "forward", arrays)
    expected["output"][0][0][0], expected["output"][0][1][0] = 0, 0  # the corner (0, 0, 0, 0) is an entry
    expected["output"][1][0] = result[0, 0, 0, 0]
    assert validate.check_sample({"output": result}, expected, "float32") < 1e-6
    with pytest.raises(validate.WrongResult, match=message):
        validate.check_sample(damage(result), expected, "float32")


def test_agreement_sees_every_entry():
    one = {"output": np.ones((3, 4))}
    other = {"output": np.ones((3, 4))}
    assert validate.check_agreement(one, other, "float64") == 0
    other["output"][2, 1] = 1.001
    with pytest.raises(validate.WrongResult, match=r"1.0 instead of 1.001 at \(2, 1\)"):
        validate.check_agreement(one, other, "float64")
    with pytest.raises(validate.WrongResult, match=r"shape \(3, 4\), expected \(4, 3\)"):
        validate.check_agreement(one, {"output": np.ones((4, 3))}, "float64")
    with pytest.raises(validate.WrongResult, match="not the same arrays"):
        validate.check_agreement(one, {"grad_input": one["output"]}, "float64")
