"""One cell of a half grid at a time, as small vectors: what `manyviews.kernels.slices_cpu` is made of.

A cell is eight neighbouring grid points: four rows of two along x. Two complex neighbours are four numbers in
a row, so a row is one vector; the compiler does not find that by itself. Weights wait in a scratch array for
`BLOCK` points at a time: four row weights, weights at x and x + 1, the sign of the imaginary part, each
`BLOCK` long, then four numbers a point.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils, extending

BLOCK = 64
SCRATCH = 11 * BLOCK

# Numba's own annotation describes the function before it is made into an intrinsic.
_intrinsic: Any = extending.intrinsic


class _Emitter:
    """Small vectors in LLVM's language; see `manyviews.kernels.lanes` for the long ones."""

    def __init__(self, context: Any, builder: Any, element: Any, width: int) -> None:
        self.context, self.builder, self.element = context, builder, element
        self.vector = ir.VectorType(context.get_data_type(element), width)

    def scalar_pointer(self, array_type: Any, array: Any, offset: Any) -> Any:
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [offset])

    def pointer(self, array_type: Any, array: Any, offset: Any) -> Any:
        place = self.scalar_pointer(array_type, array, offset)
        return self.builder.bitcast(place, self.vector.as_pointer())

    def load(self, pointer: Any) -> Any:
        return self.builder.load(pointer, align=self.element.bitwidth // 8)

    def store(self, value: Any, pointer: Any) -> None:
        self.builder.store(value, pointer, align=self.element.bitwidth // 8)

    def splat(self, scalar: Any) -> Any:
        nothing = ir.Constant(self.vector, ir.Undefined)
        lane = self.builder.insert_element(nothing, scalar, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.vector.count), None)
        return self.builder.shuffle_vector(lane, nothing, mask)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        name = f"llvm.fmuladd.v{self.vector.count}f{self.element.bitwidth}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)  # type: ignore[no-untyped-call]
        return self.builder.call(function, [a, b, c])

    def four_rows(self, first: Any, row: Any, plane: Any) -> list[Any]:
        second = self.builder.add(first, row)
        return [first, second, self.builder.add(first, plane), self.builder.add(second, plane)]

    def four_weights(self, scratch_type: Any, scratch: Any, k: Any) -> list[Any]:
        places = [self.builder.add(k, k.type(j * BLOCK)) for j in range(4)]
        return [self.builder.load(self.scalar_pointer(scratch_type, scratch, place)) for place in places]


@_intrinsic
def mix_rows(typing_context: Any, flat: Any, first: Any, row: Any, plane: Any, scratch: Any, k: Any) -> Any:
    """Quad k of ``scratch``: the four rows of the cell at ``flat[first]``, each times its weight."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat_value, first_value, row_value, plane_value, scratch_value, k_value = arguments
        emit = _Emitter(context, builder, flat.dtype, 4)
        total = ir.Constant(emit.vector, None)
        weights = emit.four_weights(scratch, scratch_value, k_value)
        for place, weight in zip(emit.four_rows(first_value, row_value, plane_value), weights, strict=True):
            values = emit.load(emit.pointer(flat, flat_value, place))
            total = emit.multiply_add(values, emit.splat(weight), total)
        quad = builder.add(builder.mul(k_value, k_value.type(4)), k_value.type(7 * BLOCK))
        emit.store(total, emit.pointer(scratch, scratch_value, quad))
        return context.get_dummy_value()

    return types.void(flat, types.intp, types.intp, types.intp, scratch, types.intp), generate


def _spreader(width: int) -> Any:
    """An intrinsic that adds ``width`` elements of scratch, at ``source``, to the four rows of a cell."""

    @_intrinsic
    def spread(
        typing_context: Any, flat: Any, first: Any, row: Any, plane: Any, scratch: Any, k: Any, source: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            flat_value, first_value, row_value, plane_value, scratch_value, k_value, source_value = arguments
            emit = _Emitter(context, builder, flat.dtype, width)
            values = emit.load(emit.pointer(scratch, scratch_value, source_value))
            weights = emit.four_weights(scratch, scratch_value, k_value)
            for place, weight in zip(
                emit.four_rows(first_value, row_value, plane_value), weights, strict=True
            ):
                pointer = emit.pointer(flat, flat_value, place)
                emit.store(emit.multiply_add(values, emit.splat(weight), emit.load(pointer)), pointer)
            return context.get_dummy_value()

        index = types.intp
        return types.void(flat, index, index, index, scratch, index, index), generate

    return spread


spread_quad = _spreader(4)
spread_pair = _spreader(2)
