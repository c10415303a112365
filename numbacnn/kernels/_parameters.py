"""Parameters of kernels: what annotations mean to Numba, and where a launch's record holds the arguments."""

from __future__ import annotations

import functools
import itertools
from typing import Any

# Parameters that the drivers supply, in the order of the machine signature's arguments 1, 2, 3.
SPECIAL = ("block", "worker", "scratch")


class Parameter:
    """One parameter: its Numba type for a binding of the type variables, and how an argument fills its slots."""

    def __init__(self, name: str, annotation: Any) -> None:
        self.name = name
        self.ndim = 0
        self.record: Any = None
        if isinstance(annotation, type) and issubclass(annotation, tuple):
            self.kind, self.element, self.record = "record", "int64", annotation
            return
        text = str(annotation).replace(" ", "")
        if text == "slots":
            self.kind, self.element = "slots", "int64"
        elif text.endswith("*"):
            self.kind, self.element = "pointer", text[:-1]
        elif text.endswith("]"):
            self.kind, self.element = "array", text[: text.index("[")]
            self.ndim = text.count(":")
        else:
            self.kind, self.element = "scalar", text

    @property
    def is_array(self) -> bool:
        return self.kind in ("array", "pointer")

    def numba_type(self, binding: dict[str, str]) -> Any:
        from numba.core import types

        element = getattr(types, binding.get(self.element, self.element))
        if self.kind in ("pointer", "slots"):
            return types.CPointer(element)
        if self.kind == "array":
            return types.Array(element, self.ndim, "C")
        if self.kind == "record":
            return _record_class()(self.record)
        return element

    def format(self, binding: dict[str, str]) -> str:
        """`struct` format of its 8-byte slots."""
        if self.kind == "slots":
            return ""
        if self.kind == "scalar":
            return {"float32": "f4x", "float64": "d"}.get(binding.get(self.element, self.element), "q")
        return "q" * (len(self.record._fields) if self.kind == "record" else 1 + self.ndim)


@functools.cache
def _record_class() -> Any:
    """Numba's type of a record: a pointer to its slots, which never change (made at first use, because it needs Numba).

    As a tuple, Numba would take it apart and put it together again at every call: seconds, for dozens of fields.
    """
    from llvmlite import ir
    from numba.core import types
    from numba.core.imputils import lower_getattr_generic
    from numba.core.registry import cpu_target
    from numba.core.typing.templates import AttributeTemplate, infer_getattr
    from numba.extending import models, register_model

    class Record(types.Type):
        """The integers of the NamedTuple `kind`, by name."""

        def __init__(self, kind: Any) -> None:
            self.kind = kind
            super().__init__(name=f"Record({kind.__module__}.{kind.__qualname__})")

    @register_model(Record)
    class RecordModel(models.PrimitiveModel):
        def __init__(self, manager: Any, record: Any) -> None:
            super().__init__(manager, record, ir.IntType(64).as_pointer())

    @infer_getattr
    class RecordAttributes(AttributeTemplate):
        key = Record

        def generic_resolve(self, record: Any, name: str) -> Any:
            return types.int64 if name in record.kind._fields else None

    @lower_getattr_generic(Record)
    def load_field(context: Any, builder: Any, record: Any, value: Any, name: str) -> Any:
        place = builder.gep(value, [ir.Constant(ir.IntType(64), record.kind._fields.index(name))])
        field = builder.load(place)
        field.set_metadata("invariant.load", builder.module.add_metadata([]))
        return field

    cpu_target.target_context.refresh()
    cpu_target.typing_context.refresh()
    return Record


def unpack(context: Any, builder: Any, record: Any, parameters: list[Parameter], types_: list[Any]) -> list[Any]:
    """Load every parameter from the record. Pointers are loaded as pointers: no integer becomes an address."""
    from llvmlite import ir
    from numba.core import types
    from numba.np.arrayobj import populate_array

    i64 = ir.IntType(64)
    slots = builder.bitcast(record, i64.as_pointer())
    position = itertools.count()

    def slot(llvm_type: Any) -> Any:
        place = builder.gep(slots, [ir.Constant(i64, next(position))])
        return builder.load(builder.bitcast(place, llvm_type.as_pointer()))

    values = []
    for parameter, ty in zip(parameters, types_, strict=True):
        if parameter.kind == "slots":
            values.append(slots)
        elif isinstance(ty, types.Array):
            element = context.get_data_type(ty.dtype)
            data = slot(element.as_pointer())
            shape = [slot(i64) for _ in range(ty.ndim)]
            itemsize = ir.Constant(i64, context.get_abi_sizeof(element))
            strides = [itemsize]
            for extent in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], extent))
            array = context.make_array(ty)(context, builder)
            populate_array(array, data, shape, strides, itemsize, meminfo=None)
            values.append(array._getvalue())
        elif parameter.kind == "record":
            values.append(builder.gep(slots, [ir.Constant(i64, next(position))]))
            for _ in parameter.record._fields[1:]:
                next(position)
        else:
            values.append(slot(context.get_data_type(ty)))
    return values
