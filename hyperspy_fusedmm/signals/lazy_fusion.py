"""Which lazy maps are fused chunk by chunk."""

from .series import is_series

__all__ = ["CHUNK", "is_large", "needs_memory"]

# Images up to one chunk are solved in memory.
CHUNK = 1024
# Options that are available chunk by chunk with these values only.
PLAIN = {
    "forward": ("auto", "linear", "power"),
    "preset": (None,),
    "solver": ("auto", "primal-dual"),
    "initial": ("auto", "measured", None),
    "standard_error": (False, "hessian"),
}


def is_large(maps):
    """Whether maps, of one frame, are too large to be fused in memory."""
    rows, columns = maps.data.shape[-2:]
    return rows * columns > CHUNK**2 and not is_series(maps)


def needs_memory(options):
    """Names of the options that cannot be obeyed chunk by chunk.

    Parameters
    ----------
    options : dict

    Returns
    -------
    list of str
    """
    return [
        name
        for name, plain in PLAIN.items()
        if not _is_one_of(options.get(name, plain[0]), plain)
    ]


def _is_one_of(value, plain):
    return isinstance(value, (str, bool, type(None))) and value in plain
