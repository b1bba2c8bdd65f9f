"""Part of a row of a tile as a one-dimensional array, at no cost.

Slicing would check and correct signs and bounds of every index at every row, which takes as
long as a third of the arithmetic on a row.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["span"]


@intrinsic
def span(typing_context, array, plane, row, first, count):
    """``array[plane, row, first : first + count]`` of a C-contiguous array.

    A ``row`` beyond the last is the last: some arrays hold one row for all. Nothing else is checked.
    """
    if not (isinstance(array, types.Array) and array.ndim == 3 and array.layout == "C"):
        return None
    view = types.Array(array.dtype, 1, "C")
    signature = view(array, types.intp, types.intp, types.intp, types.intp)

    def generate(context, builder, signature, arguments):
        source = context.make_array(array)(context, builder, arguments[0])
        plane, row, first, count = arguments[1:]
        _, rows, columns = cgutils.unpack_tuple(builder, source.shape, 3)
        last = builder.sub(rows, rows.type(1))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        start = builder.mul(builder.add(builder.mul(plane, rows), row), columns)
        target = context.make_array(view)(context, builder)
        item = context.get_constant(types.intp, context.get_abi_sizeof(
            context.get_data_type(array.dtype)))  # fmt: skip
        context.populate_array(
            target,
            data=builder.gep(source.data, [builder.add(start, first)]),
            shape=cgutils.pack_array(builder, [count]),
            strides=cgutils.pack_array(builder, [item]),
            itemsize=item,
            meminfo=None,
        )
        return target._getvalue()

    return signature, generate
