"""Fused maps are not zero where only nothing happened to be counted."""

import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.data import core_shell_particles
from hyperspy_fusedmm.solver.resolution import least_values

FIXED = {
    "lambda_haadf": 0.3, "lambda_tv": 1.5, "regularization": "tv", "guided": True, "show_progressbar": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def specimen():
    return core_shell_particles(shape=(48, 64), dose=0.3, haadf_snr=20, seed=5)


def fitted(specimen, lazy=False, options=None, **settings):
    maps = specimen.maps.as_lazy() if lazy else specimen.maps
    model = maps.create_model(specimen.haadf, **(options or {}))
    model.fit(**(FIXED | settings))
    return model


@pytest.mark.parametrize("lazy", [False, True])
def test_found_by_default(specimen, lazy):
    model = fitted(specimen, lazy)
    expected = least_values(
        specimen.maps.data, ("poisson",) * 3, model.weights, model.haadf_noise
    )
    np.testing.assert_array_equal(model.lower_bound, expected)
    assert model.fused.metadata.FusedMultiModal.lower_bound == expected.tolist()
    np.testing.assert_allclose(np.asarray(model.fused.data).min(axis=(1, 2)), expected, rtol=1e-5)
    published = fitted(specimen, lazy, lower_bound=0)
    assert not published.lower_bound.any()
    assert not np.asarray(published.fused.data).min(axis=(1, 2)).any()
    for found in (model, published):
        totals = np.asarray(found.fused.data).sum(axis=(1, 2))
        np.testing.assert_allclose(totals, specimen.maps.data.sum(axis=(1, 2)), rtol=0.04)


def test_in_chunks(specimen):
    given = {"lower_bound": {"Co": 0.01, "S": 0.02, "O": 0.0}, "count_slope": 0.9}
    eager = fitted(specimen, **given)
    maps = specimen.maps.as_lazy()
    maps.data = maps.data.rechunk((3, 20, 30))
    fused = maps.fuse(specimen.haadf, **(FIXED | given))
    np.testing.assert_allclose(
        np.asarray(fused.data), eager.fused.data, atol=2e-2 * eager.fused.data.max()
    )


@pytest.mark.parametrize("options", [{"forward": "power"}, {"preset": "schwartz2022"}])
def test_published_forms_have_none(specimen, options):
    settings = {"max_iterations": 5, "guided": False}
    model = fitted(specimen, options=options, **settings)
    assert not model.lower_bound.any()


def test_gaussian_and_empty_maps_have_none():
    rng = np.random.default_rng(0)
    maps = {"Co": rng.normal(3, 1, (24, 24)), "O": rng.poisson(1.0, (24, 24)), "S": np.zeros((24, 24))}
    model = fmm.element_maps(maps).create_model(
        fidelity={"Co": "gaussian", "O": "poisson", "S": "poisson"}, noise={"Co": 1.0}
    )
    model.fit(lambda_tv=[1.0, 2.0, 2.0], regularization="tv", show_progressbar=False)
    assert (model.lower_bound > 0).tolist() == [False, True, False]
    assert not model.fused.get_map("S").data.any()


@pytest.mark.parametrize("value", ["found", -1, [1, 2], {"Co": 1}, np.nan])
def test_bad_input(specimen, value):
    with pytest.raises(ValueError, match="lower_bound"):
        fitted(specimen, lower_bound=value)
