"""Warnings that point to the caller's line, however deep inside they arise."""

import sys
import warnings

_PACKAGE = __name__.partition(".")[0] + "."


def warn_caller(message):
    """Warn about the line outside this package that led here.

    Parameters
    ----------
    message : str
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
