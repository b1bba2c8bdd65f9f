"""The vectorised logarithm and exponential against NumPy's."""

import numpy as np

from hyperspy_fusedmm.solver._elementary import fast_exp, fast_log


def test_logarithm():
    rng = np.random.default_rng(0)
    values = np.concatenate([10 ** rng.uniform(-290, 290, 500), rng.uniform(0.5, 2, 500), [1.0]])
    found = np.array([fast_log(value) for value in values])
    np.testing.assert_allclose(found, np.log(values), rtol=1e-13, atol=1e-15)


def test_exponential():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-690, 690, 500), rng.uniform(-1, 1, 500), [0.0]])
    found = np.array([fast_exp(value) for value in values])
    np.testing.assert_allclose(found, np.exp(values), rtol=1e-12)


def test_exponential_far_out_is_neither_infinite_nor_nan():
    assert np.isfinite(fast_exp(1e300)) and fast_exp(-1e300) < 1e-300
