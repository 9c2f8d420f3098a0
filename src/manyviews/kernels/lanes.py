"""SIMD lanes for Numba: sixteen neighbouring array elements held in a register, or four or eight.

Numba leaves vectorisation to the compiler, which gives up when it cannot prove that two arrays do not
overlap. The projectors are sums of a few thousand scaled rows into one row; with the sum held in named
registers they run at several times the speed of the loop the compiler makes. LLVM turns a sixteen-element
vector into whatever the processor has, so nothing here depends on its instruction set. Lanes know how many
they are: `zeros` and `load` make sixteen, `few_zeros` what is asked for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils, extending
from numba.core.extending import models, register_model
from numpy.typing import DTypeLike, NDArray

WIDTH = 16
_LINE_BYTES = 64
_FEW = (4, 8)  # widths for fewer images than sixteen

# Numba's own annotation describes the function before it is made into an intrinsic.
intrinsic: Any = extending.intrinsic


def lane_count(images: int) -> int:
    """Lanes for so many images side by side: one for one, then 4, 8, or whole `WIDTH`.

    Thin slabs would otherwise take the room of sixteen slices.
    """
    if images <= 1:
        return images
    return next((few for few in _FEW if images <= few), -(-images // WIDTH) * WIDTH)


def few_lanes(lanes: int) -> tuple[int, ...]:
    """What `few_zeros` takes for images side by side in so many lanes: a tuple with an entry a lane.

    Numba compiles a kernel for each length of a tuple.
    """
    return (0,) * min(lanes, WIDTH)


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of any content, at an address that lanes are loaded from in one go: NumPy's lie across.

    Sums of rows of 64 elements run at two thirds of the speed from where each load meets two lines of cache.
    """
    count = math.prod(shape)
    room: NDArray[Any] = np.empty(count + WIDTH, dtype)
    skip = -room.ctypes.data % _LINE_BYTES // room.itemsize
    return room[skip : skip + count].reshape(shape)


@njit(inline="always")
def aligned_zeros(count, like):  # type: ignore[no-untyped-def]
    """For kernels: so many zeros ``(count,)`` of the type of an array, aligned as `aligned_empty`."""
    room = np.zeros(count + WIDTH, like.dtype)
    skip = -room.ctypes.data % _LINE_BYTES // room.itemsize
    return room[skip : skip + count]


class Lanes(types.Type):
    """Numba type of ``width`` elements of one floating-point type."""

    def __init__(self, element: types.Float, width: int = WIDTH) -> None:
        self.element = element
        self.width = width
        super().__init__(name=f"Lanes({element}, {width})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = ir.FloatType() if lanes.element == types.float32 else ir.DoubleType()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.width))  # type: ignore[no-untyped-call]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, width: int = WIDTH) -> Any:
    """Address of element ``offset`` of a contiguous array, as a pointer to lanes."""
    data = context.make_array(array_type)(context, builder, array).data
    element = builder.gep(data, [offset])
    vector = ir.VectorType(context.get_data_type(array_type.dtype), width)
    return builder.bitcast(element, vector.as_pointer()), vector


def _splat(builder: Any, scalar: Any, vector: Any) -> Any:
    lane = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
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
    """``store(array, offset, lanes)``: write lanes to the array's elements from ``offset`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array_value, offset_value, lanes_value = arguments
        pointer, _ = _pointer(context, builder, signature.args[0], array_value, offset_value, lanes.width)
        builder.store(lanes_value, pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def zeros(typing_context: Any, array: Any) -> Any:
    """``zeros(array)``: lanes of zeros of the array's element type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return Lanes(array.dtype)(array), generate


@intrinsic
def few_zeros(typing_context: Any, array: Any, few: Any) -> Any:
    """``few_zeros(array, few)``: as many lanes of zeros as ``few``, from `few_lanes`, is long."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return Lanes(array.dtype, len(few))(array, few), generate


def _multiply_add(builder: Any, vector: Any, row: Any, scale: Any, total: Any) -> Any:
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    function_type = ir.FunctionType(vector, [vector, vector, vector])
    name = f"llvm.fmuladd.v{vector.count}f{bits}"
    function = cgutils.get_or_insert_function(builder.module, function_type, name)  # type: ignore[no-untyped-call]
    return builder.call(function, [row, scale, total])


@intrinsic
def sum_of(typing_context: Any, one: Any, other: Any) -> Any:
    """``sum_of(one, other)``: lanes added."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return one(one, other), generate


@intrinsic
def scale_add(typing_context: Any, weight: Any, lanes: Any, total: Any) -> Any:
    """``scale_add(weight, lanes, total)``: ``weight * lanes + total``, all in registers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar, row, total_value = arguments
        return _multiply_add(builder, row.type, row, _splat(builder, scalar, row.type), total_value)

    return lanes(lanes.element, lanes, lanes), generate


@intrinsic
def add_scaled(typing_context: Any, lanes: Any, weight: Any, array: Any, offset: Any) -> Any:
    """``add_scaled(lanes, weight, array, offset)``: lanes, and weight times the elements from offset on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes_value, scalar, array_value, offset_value = arguments
        array_type = signature.args[2]
        pointer, vector = _pointer(context, builder, array_type, array_value, offset_value, lanes.width)
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
