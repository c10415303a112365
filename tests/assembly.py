"""What tests look for in the machine code of kernels."""

from numbacnn.kernels._target import target


def vector_register():
    """How the registers are called that hold a kernel's vectors, or the widest that the machine has."""
    widest = 64 if target().isa == "avx512" else 32
    return {16: "xmm", 32: "ymm", 64: "zmm"}[min(target().vector_bytes, widest)]
