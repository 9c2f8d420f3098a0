"""SIMD lanes for Numba: sixteen neighbouring array elements held in a register.

Numba leaves vectorisation to the compiler, which gives up when it cannot prove that two arrays do not
overlap. The projectors are sums of a few thousand scaled rows into one row; with the sum held in named
registers they run at several times the speed of the loop the compiler makes. LLVM turns a sixteen-element
vector into whatever the processor has, so nothing here depends on its instruction set.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils, extending
from numba.core.extending import models, register_model

WIDTH = 16

# Numba's own annotation describes the function before it is made into an intrinsic.
intrinsic: Any = extending.intrinsic


class Lanes(types.Type):
    """Numba type of `WIDTH` elements of one floating-point type."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = ir.FloatType() if lanes.element == types.float32 else ir.DoubleType()
        super().__init__(manager, lanes, ir.VectorType(element, WIDTH))  # type: ignore[no-untyped-call]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Address of element ``offset`` of a contiguous array, as a pointer to lanes."""
    data = context.make_array(array_type)(context, builder, array).data
    element = builder.gep(data, [offset])
    vector = ir.VectorType(context.get_data_type(array_type.dtype), WIDTH)
    return builder.bitcast(element, vector.as_pointer()), vector


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    lane = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None)
    return builder.shuffle_vector(lane, ir.Constant(vector, ir.Undefined), mask)


@intrinsic
def load(typing_context: Any, array: Any, offset: Any) -> Any:
    """``load(array, offset)``: lanes ``array.flat[offset : offset + WIDTH]`` of a C-contiguous array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, _ = _pointer(context, builder, signature.args[0], *arguments)
        return builder.load(pointer, align=4)

    return Lanes(array.dtype)(array, types.intp), generate


@intrinsic
def store(typing_context: Any, array: Any, offset: Any, lanes: Any) -> Any:
    """``store(array, offset, lanes)``: write lanes to ``array.flat[offset : offset + WIDTH]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, _ = _pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def zeros(typing_context: Any, array: Any) -> Any:
    """``zeros(array)``: lanes of zeros of the array's element type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return Lanes(array.dtype)(array), generate


def _multiply_add(builder: Any, vector: Any, row: Any, scale: Any, total: Any) -> Any:
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    function_type = ir.FunctionType(vector, [vector, vector, vector])
    name = f"llvm.fmuladd.v{WIDTH}f{bits}"
    function = cgutils.get_or_insert_function(builder.module, function_type, name)  # type: ignore[no-untyped-call]
    return builder.call(function, [row, scale, total])


@intrinsic
def scale_add(typing_context: Any, weight: Any, lanes: Any, total: Any) -> Any:
    """``scale_add(weight, lanes, total)``: ``weight * lanes + total``, all in registers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar, row, total_value = arguments
        return _multiply_add(builder, row.type, row, _splat(builder, scalar, row.type), total_value)

    return lanes(lanes.element, lanes, lanes), generate


@intrinsic
def add_scaled(typing_context: Any, lanes: Any, weight: Any, array: Any, offset: Any) -> Any:
    """``add_scaled(lanes, weight, array, offset)``: ``lanes + weight * load(array, offset)``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes_value, scalar, array_value, offset_value = arguments
        pointer, vector = _pointer(context, builder, signature.args[2], array_value, offset_value)
        scale = _splat(builder, scalar, vector)
        row = builder.load(pointer, align=4)
        return _multiply_add(builder, vector, row, scale, lanes_value)

    return lanes(lanes, array.dtype, array, types.intp), generate


@intrinsic
def quarter_turn(typing_context: Any, lanes: Any) -> Any:
    """``quarter_turn(lanes)``: pairs of real and imaginary part, times the imaginary unit."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (pairs,) = arguments
        negative = builder.fsub(ir.Constant(pairs.type, None), pairs)
        order = [lane + 1 if lane % 2 == 0 else WIDTH + lane - 1 for lane in range(WIDTH)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), order)
        return builder.shuffle_vector(negative, pairs, mask)

    return lanes(lanes), generate
