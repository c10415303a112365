"""A table of what a model's layers make, cost and see."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .autograd import Tensor, enable_grad
from .errors import ShapeError
from .ops.complexity import ReceptiveField

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .autograd.tape import Node
    from .nn import Module

    Shape = tuple[int, ...]

__all__ = ["LayerSummary", "Summary", "summary"]


class LayerSummary(NamedTuple):
    """One call of one layer.

    Parameters
    ----------
    name, kind : str
        The dotted name in the model, and the class.
    output_shape : tuple of int
        Without the batch.
    parameters : int
        Numbers learned or frozen; 0 where a layer is called again.
    flops : int
        Floating-point operations per sample: two per multiply-add of convolutions and matrix products.
    receptive_field : tuple of (int or None)
        Per axis of the input, the samples that an output element depends on; None is all of them.
    memory_bytes : int
        Of the output, per sample; 0 where it is a view of the input.
    """

    name: str
    kind: str
    output_shape: Shape
    parameters: int
    flops: int
    receptive_field: tuple[int | None, ...]
    memory_bytes: int


class Summary(NamedTuple):
    """What `summary` returns; ``print`` shows it as a table.

    Parameters
    ----------
    layers : list of LayerSummary
        In the order they were called.
    input_shape : tuple of int
        Without the batch.
    parameters, trainable : int
        Of the whole model, and those of them that require a gradient.
    flops : int
        Per sample.
    memory_bytes : int
        All outputs, per sample: what a forward pass holds for the backward pass, to a first approximation.
    """

    layers: list[LayerSummary]
    input_shape: Shape
    parameters: int
    trainable: int
    flops: int
    memory_bytes: int

    def __str__(self) -> str:
        header = ("layer", "output (N, ...)", "parameters", "FLOPs", "receptive field", "memory")
        rows = [header, ("input", _shape(self.input_shape), "", "", "", "")]
        rows += [
            (
                f"{layer.name or 'model'} ({layer.kind})",
                _shape(layer.output_shape),
                f"{layer.parameters:,}",
                f"{layer.flops:,}",
                " x ".join("all" if size is None else str(size) for size in layer.receptive_field),
                _bytes(layer.memory_bytes),
            )
            for layer in self.layers
        ]
        rows.append(("total", "", f"{self.parameters:,}", f"{self.flops:,}", "", _bytes(self.memory_bytes)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        lines = ["  ".join(_cells(row, widths)).rstrip() for row in rows]
        rule = "-" * max(map(len, lines))
        frozen = self.parameters - self.trainable
        note = f"per sample; {frozen:,} of the parameters are frozen" if frozen else "FLOPs and memory are per sample"
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], note])


def summary(model: Module, input_shape: Any, dtype: Any = None) -> Summary:
    """What each layer of a model makes, costs and sees.

    The model runs once, in evaluation mode, on one sample of zeros; its modes, statistics and gradients are left as
    they were. Layers are modules without submodules, in the order of their calls. Receptive fields are followed
    through whatever connects the layers, such as sums and concatenations of branches.

    Parameters
    ----------
    model : Module
    input_shape : tuple of int, or sequence of such tuples
        Of one sample, without the batch: (C, *spatial). Several tuples for a model of several inputs.
    dtype : dtype, optional
        Of the input; that of the model's parameters unless given.

    Returns
    -------
    Summary
        With the totals and a list of layers; its text is a table.

    Raises
    ------
    ShapeError
        The model does not take such an input, or the shape is not one.

    Examples
    --------
    >>> import numbacnn as nc
    >>> net = nc.nn.Sequential(nc.nn.Conv2d(1, 8, 3, padding=1), nc.nn.Flatten(), nc.nn.Linear(512, 10))
    >>> print(nc.summary(net, (1, 8, 8)))
    layer        output (N, ...)  parameters   FLOPs  receptive field   memory
    --------------------------------------------------------------------------
    input        (N, 1, 8, 8)
    0 (Conv2d)   (N, 8, 8, 8)             80   9,216            3 x 3  2.0 KiB
    1 (Flatten)  (N, 512)                  0       0            3 x 3  2.0 KiB
    2 (Linear)   (N, 10)               5,130  10,240        all x all     40 B
    --------------------------------------------------------------------------
    total                              5,210  19,456                   4.0 KiB
    FLOPs and memory are per sample
    """
    shapes = _input_shapes(input_shape)
    parameters = list(model.parameters())
    if dtype is None:
        dtype = parameters[0].dtype if parameters else np.float32
    inputs = [Tensor(np.zeros((1, *shape), dtype)) for shape in shapes]
    layers = _Observer(inputs).run(model)
    return Summary(
        layers,
        shapes[0],
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        flops=sum(layer.flops for layer in layers),
        memory_bytes=sum(layer.memory_bytes for layer in layers),
    )


class _Observer:
    """Watches a model's layers being called, by hooks.

    Receptive fields follow the tape: the inputs require gradients, so everything computed from them is recorded, and
    the field of any tensor is joined from those of the nearest known nodes behind it.
    """

    def __init__(self, inputs: list[Tensor]) -> None:
        rank = max(inputs[0].ndim - 2, 0)
        self._inputs = inputs
        self._start = ReceptiveField.of_input(rank)
        self._known: dict[int, ReceptiveField] = {}  # by the order of nodes
        self._counted: set[int] = set()  # identities of the parameters that are in the table already
        self._layers: list[LayerSummary] = []

    def run(self, model: Module) -> list[LayerSummary]:
        modes = [(module, module.training) for module in model.modules()]
        handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in model.named_modules()
            if not any(True for _ in module.children())
        ]
        try:
            with enable_grad():
                model.eval()(*[x.requires_grad_(x.dtype.kind == "f") for x in self._inputs])
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes:
                module.training = mode
        return self._layers

    def _hook(self, name: str) -> Any:
        def observe(module: Module, args: tuple[Any, ...], output: Any) -> None:
            sources = [item for item in args if isinstance(item, Tensor)]
            results = [item for item in _flat(output) if isinstance(item, Tensor)]
            if not sources or not results:
                return
            field = module.receptive_field(self._field(sources), sources[0].shape)
            for result in results:
                if result._node is not None:
                    self._known[result._node.order] = field
            fresh = [item for item in results if not any(np.may_share_memory(item.data, x.data) for x in sources)]
            self._layers.append(
                LayerSummary(
                    name,
                    type(module).__name__,
                    results[0].shape[1:],
                    self._new_parameters(module),
                    module.flops(sources[0].shape, results[0].shape),
                    field.size,
                    sum(item.nbytes for item in fresh),
                )
            )

        return observe

    def _new_parameters(self, module: Module) -> int:
        new = [parameter for parameter in module.parameters() if id(parameter) not in self._counted]
        self._counted.update(map(id, new))
        return sum(parameter.numel() for parameter in new)

    def _field(self, tensors: Sequence[Tensor]) -> ReceptiveField:
        """The receptive field of tensors, joined from the nearest known nodes, or inputs, behind them."""
        found = []
        pending: list[Node | Tensor | None] = [tensor._node or tensor for tensor in tensors]
        seen: set[int] = set()
        while pending:
            source = pending.pop()
            if source is None or id(source) in seen:
                continue
            seen.add(id(source))
            if isinstance(source, Tensor):
                if any(source is x for x in self._inputs):
                    found.append(self._start)
            elif source.order in self._known:
                found.append(self._known[source.order])
            else:
                pending += source.sources
        return functools.reduce(ReceptiveField.joined, found) if found else self._start


def _input_shapes(input_shape: Any) -> list[Shape]:
    several = bool(input_shape) and all(isinstance(item, (tuple, list)) for item in input_shape)
    shapes = [tuple(shape) for shape in (input_shape if several else [input_shape])]
    for shape in shapes:
        if not shape or not all(isinstance(extent, (int, np.integer)) and extent > 0 for extent in shape):
            raise ShapeError(f"input_shape must be the shape of one sample, such as (3, 32, 32); got {input_shape!r}")
    return shapes


def _flat(output: Any) -> Iterator[Any]:
    if isinstance(output, (tuple, list)):
        for item in output:
            yield from _flat(item)
    else:
        yield output


def _shape(shape: Shape) -> str:
    return f"({', '.join(['N', *map(str, shape)])})" if shape else "(N,)"


def _bytes(count: float) -> str:
    """A number of bytes with a unit, to three digits."""
    power = min(int(math.log(count, 1024)), 4) if count else 0
    return f"{count:,.0f} B" if not power else f"{count / 1024**power:,.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    """Text to the left, numbers to the right."""
    return [cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths))]  # noqa: B905
