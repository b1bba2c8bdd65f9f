"""Part of a row of a tile as a one-dimensional array, at no cost.

Slicing would check and correct signs and bounds of every index at every row, which takes as
long as a third of the arithmetic on a row.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["ring_span", "span"]


def _view_of_row(place_of_row):
    """Typing and code of ``array[plane, place, first : first + count]`` without any check.

    ``place_of_row(builder, row, rows)`` is the place of a row among ``rows`` of them.
    """

    def view_of_row(typing_context, array, plane, row, first, count):
        if not (isinstance(array, types.Array) and array.ndim == 3 and array.layout == "C"):
            return None
        view = types.Array(array.dtype, 1, "C")
        signature = view(array, types.intp, types.intp, types.intp, types.intp)

        def generate(context, builder, signature, arguments):
            source = context.make_array(array)(context, builder, arguments[0])
            plane, row, first, count = arguments[1:]
            _, rows, columns = cgutils.unpack_tuple(builder, source.shape, 3)
            place = place_of_row(builder, row, rows)
            start = builder.mul(builder.add(builder.mul(plane, rows), place), columns)
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

    return view_of_row


@intrinsic
def span(typing_context, array, plane, row, first, count):
    """``array[plane, row, first : first + count]`` of a C-contiguous array. Nothing else is checked."""
    typed = _view_of_row(lambda builder, row, rows: row)
    return typed(typing_context, array, plane, row, first, count)


@intrinsic
def ring_span(typing_context, array, plane, row, first, count):
    """As `span` of an array whose rows are a ring: they take turns in 2, 4, 8, ... places.

    The array has one row more than places, which is not used (`hyperspy_fusedmm.solver._tiles.ring` makes it). If it has one
    row only, that stands for all.
    """

    def place_of_row(builder, row, rows):
        mask = builder.sub(rows, rows.type(2))
        one = builder.icmp_signed("<", mask, rows.type(0))
        return builder.and_(row, builder.select(one, rows.type(0), mask))

    return _view_of_row(place_of_row)(typing_context, array, plane, row, first, count)
