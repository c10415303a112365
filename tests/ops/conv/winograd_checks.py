"""Winograd convolution against the oracle, within its stated errors."""

from tests.ops.conv import checks

ALGORITHM = "winograd"
# Of the largest result, for the normally distributed data of these tests.
TOLERANCE = {"float32": 3e-5, "float64": 6e-14}


def directions(case):
    return checks.directions(case, ALGORITHM)


def results(case, algorithm=ALGORITHM):
    return checks.results(case, checks.normal_operands(case), directions(case), algorithm)


def check(case):
    assert "forward" in checks.check_close(case, ALGORITHM, TOLERANCE[case.dtype])
