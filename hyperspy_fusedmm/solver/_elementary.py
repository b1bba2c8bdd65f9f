"""Logarithm and exponential that the compiler vectorises, in double precision."""

import numpy as np
from numba import njit

__all__ = ["fast_exp", "fast_log", "kernel"]

FASTMATH = {"contract", "arcp", "nsz", "nnan", "ninf"}
OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "_nrt": False}
# Sums are vectorised only if their order is free.
kernel = njit(fastmath=FASTMATH | {"reassoc"}, **OPTIONS)
# For what relies on the order of operations.
ordered_kernel = njit(fastmath=FASTMATH, **OPTIONS)


@kernel
def fast_log(value):
    """Natural logarithm of a positive normal double, to 1e-14; unlike the library's it vectorises."""
    bits = np.float64(value).view(np.int64)
    exponent = (bits - np.int64(0x3FE6A09E667F3BCD)) >> 52
    mantissa = np.int64(bits - (exponent << 52)).view(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    t = s * s
    series = 2.0 / 21
    series = series * t + 2.0 / 19
    series = series * t + 2.0 / 17
    series = series * t + 2.0 / 15
    series = series * t + 2.0 / 13
    series = series * t + 2.0 / 11
    series = series * t + 2.0 / 9
    series = series * t + 2.0 / 7
    series = series * t + 2.0 / 5
    series = series * t + 2.0 / 3
    return s * (2.0 + t * series) + np.float64(exponent) * 0.6931471805599453


@ordered_kernel
def fast_exp(value):
    """Exponential function, to 1e-13, of values from -700 to 700; vectorises as `fast_log` does."""
    clipped = min(max(np.float64(value), -700.0), 700.0)
    shifted = clipped * 1.4426950408889634 + 6755399441055744.0
    power = shifted - 6755399441055744.0
    rest = clipped - power * 0.6931471805599453
    series = 1.0 / 479001600
    series = series * rest + 1.0 / 39916800
    series = series * rest + 1.0 / 3628800
    series = series * rest + 1.0 / 362880
    series = series * rest + 1.0 / 40320
    series = series * rest + 1.0 / 5040
    series = series * rest + 1.0 / 720
    series = series * rest + 1.0 / 120
    series = series * rest + 1.0 / 24
    series = series * rest + 1.0 / 6
    series = series * rest + 0.5
    series = (series * rest + 1.0) * rest + 1.0
    return series * np.int64((np.int64(power) + np.int64(1023)) << 52).view(np.float64)
