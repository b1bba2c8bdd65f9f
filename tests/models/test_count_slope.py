"""Fused maps keep their counts, unless told not to."""

import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.data import core_shell_particles
from hyperspy_fusedmm.signals import sampling

QUIET = {"show_progressbar": False}
FIXED = {"lambda_haadf": 0.3, "lambda_tv": 1.5, "regularization": "tv", "guided": True} | QUIET


@pytest.fixture(scope="module")
def specimen():
    return core_shell_particles(shape=(48, 64), dose=0.5, haadf_snr=20, seed=5)


def fitted(specimen, lazy=False, **options):
    maps = specimen.maps.as_lazy() if lazy else specimen.maps
    model = maps.create_model(specimen.haadf)
    model.fit(**(FIXED | options))
    return model


def totals(model):
    return np.asarray(model.fused.data).sum(axis=(1, 2))


@pytest.mark.parametrize("lazy", [False, True])
def test_counts_are_kept_by_default(specimen, lazy):
    counts = specimen.maps.data.sum(axis=(1, 2))
    model = fitted(specimen, lazy)
    np.testing.assert_allclose(totals(model), counts, rtol=0.03)
    told = model.fused.metadata.FusedMultiModal
    assert told.keeps_counts and told.count_slope == model.count_slope.tolist()
    np.testing.assert_allclose(told.kept_counts, totals(model) / counts, rtol=1e-5)
    published = fitted(specimen, lazy, count_slope=1)
    assert (published.count_slope == 1).all()
    assert not published.fused.metadata.FusedMultiModal.keeps_counts
    assert np.abs(totals(published) / counts - 1).max() > 0.08


def test_what_is_found_can_be_given(specimen):
    model = fitted(specimen)
    again = fitted(specimen, count_slope=dict(zip(model.fused.elements, model.count_slope)))
    np.testing.assert_array_equal(again.count_slope, model.count_slope)
    assert again.objective()["total"] == pytest.approx(model.objective()["total"], rel=1e-3)
    np.testing.assert_allclose(totals(again), totals(model), rtol=5e-3)


def test_the_choice_keeps_counts_too(specimen):
    model = specimen.maps.create_model(specimen.haadf)
    model.fit(tolerance=1e-3, guided=True, **QUIET)
    assert "regularization" in model.chosen_from_data
    np.testing.assert_allclose(totals(model), specimen.maps.data.sum(axis=(1, 2)), rtol=0.03)


def test_published_forms_have_slopes_of_one(specimen):
    fixed = {"lambda_tv": 1.5, "lambda_haadf": 0.3, "regularization": "tv", "guided": False}
    for options, given in (({"forward": "power"}, fixed), ({"preset": "schwartz2022"}, {})):
        model = specimen.maps.create_model(specimen.haadf, **options)
        model.fit(max_iterations=5, **given, **QUIET)
        assert (model.count_slope == 1).all()
        assert not model.fused.metadata.FusedMultiModal.keeps_counts


def test_gaussian_maps_have_none():
    rng = np.random.default_rng(0)
    maps = fmm.element_maps({"Co": rng.normal(3, 1, (24, 24)), "O": rng.poisson(1.0, (24, 24))})
    model = maps.create_model(fidelity={"Co": "gaussian", "O": "poisson"}, noise={"Co": 1.0})
    model.fit(lambda_tv=[1.0, 2.0], **QUIET)
    assert model.count_slope[0] == 1
    assert model.fused.get_map("O").data.sum() == pytest.approx(maps.get_map("O").data.sum(), rel=0.03)


def test_refits_keep_counts(specimen):
    """The error of the total is the noise of the counts; without, a bias that is larger."""
    region = np.ones(specimen.maps.data.shape[1:], bool)
    counts = specimen.maps.data.sum(axis=(1, 2))
    noise = np.sqrt(counts) / region.sum()

    def error(**options):
        model = fitted(specimen, **options)
        return model.region_error(region, replicates=8, **QUIET)

    kept, published = error(), error(count_slope=1)
    assert (kept < 4 * noise).all() and published[1] > 1.5 * kept[1]


@pytest.mark.parametrize("value", ["found", 0, -1, [1, 2], {"Co": 1}, np.nan])
def test_bad_input(specimen, value):
    model = specimen.maps.create_model(specimen.haadf)
    with pytest.raises(ValueError, match="count_slope"):
        model.fit(count_slope=value, **FIXED)
    with pytest.raises(RuntimeError):
        model.fused


def test_slopes_of_a_large_image_come_from_a_part_of_it(specimen, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLE", 44)
    monkeypatch.setattr(sampling, "TILES", 2)
    model = fitted(specimen)
    assert model.fused.metadata.FusedMultiModal.initial == "measured"
    np.testing.assert_allclose(totals(model), specimen.maps.data.sum(axis=(1, 2)), rtol=0.1)
    assert (model.count_slope != 1).all()


def test_the_fit_goes_on_from_where_the_slopes_were_found(specimen):
    model = fitted(specimen)
    assert model.fused.metadata.FusedMultiModal.initial == "slopes"
    other = fitted(specimen, initial="measured")
    np.testing.assert_array_equal(model.count_slope, other.count_slope)
    assert model.iterations < other.iterations
    bound = model.gap + other.gap
    assert abs(model.objective()["total"] - other.objective()["total"]) <= 1.01 * bound
    # The same options find the same slopes.
    model.fit(**FIXED)
    np.testing.assert_array_equal(model.count_slope, other.count_slope)
