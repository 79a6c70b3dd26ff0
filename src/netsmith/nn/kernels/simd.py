"""Vectors of sixteen float32 inside Numba functions, read and written at plain addresses.

Numba leaves vectorising to LLVM, which gives up on loops with this many streams (it would have to
prove that none overlaps). Here a kernel says itself what stays in a register: one value is one
AVX-512 register, two of AVX2, four of SSE or NEON. Addresses are integers in bytes, unchecked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic, models, register_model

LANES = 16
BYTES = 4 * LANES

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INT = ir.IntType(64)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name="float32x16")


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, _VECTOR)


vector = _Vector()


def _splat(builder: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), mask)


def _at(builder: Any, address: Any, element: Any) -> Any:
    return builder.inttoptr(address, element.as_pointer())


@intrinsic
def load(_typing: Any, address: Any) -> Any:
    """Return the sixteen floats that start at ``address``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(_at(builder, args[0], _VECTOR), align=4)

    return vector(types.int64), emit


@intrinsic
def store(_typing: Any, address: Any, value: Any) -> Any:
    """Write sixteen floats from ``address`` on."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store(args[1], _at(builder, args[0], _VECTOR), align=4)

    return types.void(types.int64, vector), emit


@intrinsic
def load_float(_typing: Any, address: Any) -> Any:
    """Return the float at ``address``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(_at(builder, args[0], _FLOAT))

    return types.float32(types.int64), emit


@intrinsic
def store_float(_typing: Any, address: Any, value: Any) -> Any:
    """Write one float at ``address``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store(args[1], _at(builder, args[0], _FLOAT))

    return types.void(types.int64, types.float32), emit


@intrinsic
def load_int(_typing: Any, address: Any) -> Any:
    """Return the 64-bit integer at ``address``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(_at(builder, args[0], _INT))

    return types.int64(types.int64), emit


@intrinsic
def load_double(_typing: Any, address: Any) -> Any:
    """Return the double at ``address``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(_at(builder, args[0], ir.DoubleType()))

    return types.float64(types.int64), emit


@intrinsic
def call_int(_typing: Any, function: Any) -> Any:
    """Call the C function ``int f(void)`` at the address ``function``."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.FunctionType(ir.IntType(32), []).as_pointer())
        return builder.sext(builder.call(pointer, []), _INT)

    return types.int64(types.int64), emit


@intrinsic
def splat(_typing: Any, value: Any) -> Any:
    """Return sixteen copies of a float."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return vector(types.float32), emit


@intrinsic
def registers(_typing: Any) -> Any:
    """Return room for 32 vectors, of which unrolled loops keep in registers what they use."""

    def emit(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        room = alloca_once(builder, _VECTOR, size=32)
        return builder.bitcast(room, ir.IntType(8).as_pointer())

    return types.voidptr(), emit


@intrinsic
def get(_typing: Any, room: Any, index: Any) -> Any:
    """Return vector ``index`` of :func:`registers`."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(builder.bitcast(args[0], _VECTOR.as_pointer()), [args[1]]))

    return vector(types.voidptr, types.int64), emit


@intrinsic
def put(_typing: Any, room: Any, index: Any, value: Any) -> Any:
    """Set vector ``index`` of :func:`registers`."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(builder.bitcast(args[0], _VECTOR.as_pointer()), [args[1]]))

    return types.void(types.voidptr, types.int64, vector), emit


def _elementwise(operands: int, emit: Callable[..., Any]) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return emit(builder, *args)

    return vector(*(vector,) * operands), codegen


@intrinsic
def add(_typing: Any, a: Any, b: Any) -> Any:
    """Return a + b."""
    return _elementwise(2, lambda builder, x, y: builder.fadd(x, y, flags=("contract",)))


@intrinsic
def sub(_typing: Any, a: Any, b: Any) -> Any:
    """Return a - b."""
    return _elementwise(2, lambda builder, x, y: builder.fsub(x, y, flags=("contract",)))


@intrinsic
def mul(_typing: Any, a: Any, b: Any) -> Any:
    """Return a * b."""
    return _elementwise(2, lambda builder, x, y: builder.fmul(x, y, flags=("contract",)))


@intrinsic
def fma(_typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once where the processor can."""
    flags = ("contract",)
    return _elementwise(
        3, lambda builder, x, y, z: builder.fadd(builder.fmul(x, y, flags=flags), z, flags=flags)
    )


@intrinsic
def clamp(_typing: Any, value: Any, low: Any, high: Any) -> Any:
    """Return min(max(value, low), high), and NaN for NaN, as PyTorch does."""

    def emit(builder: Any, x: Any, lowest: Any, highest: Any) -> Any:
        raised = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
        return builder.select(builder.fcmp_ordered(">", raised, highest), highest, raised)

    return _elementwise(3, emit)


@intrinsic
def keep_inside(_typing: Any, value: Any, test: Any, low: Any, high: Any) -> Any:
    """Return ``value`` where low < ``test`` < high, and 0 elsewhere: the gradient of :func:`clamp`."""

    def emit(builder: Any, x: Any, y: Any, lowest: Any, highest: Any) -> Any:
        inside = builder.and_(builder.fcmp_unordered(">", y, lowest), builder.fcmp_unordered("<", y, highest))
        return builder.select(inside, x, ir.Constant(_VECTOR, None))

    return _elementwise(4, emit)
