"""Against a known truth: fusion is worth its while, and the regularizers reach the solver."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import hyperspy_fusedmm as fmm


@pytest.fixture(scope="module")
def particles():
    return fmm.data.core_shell_particles(shape=(96, 96), dose=1.0)


@pytest.fixture(scope="module")
def fused(particles):
    """Everything chosen from the data."""
    return particles.maps.fuse(particles.haadf, sensitivities=particles.sensitivities)


def error(found, truth):
    """Root-mean-square error of every map."""
    return np.sqrt(((np.asarray(found) - truth.data) ** 2).mean(axis=(1, 2)))


def test_fusion_beats_the_counts_and_the_best_blur(particles, fused):
    found = error(fused.data, particles.truth)
    assert (found < error(particles.maps.data, particles.truth)).all()
    blurs = [
        error(
            [gaussian_filter(m.astype(float), width) for m in particles.maps.data], particles.truth
        )
        for width in np.arange(0.5, 6, 0.25)
    ]
    cobalt = particles.elements.index("Co")
    assert found[cobalt] < 0.8 * np.min(blurs, axis=0)[cobalt]


def test_the_haadf_helps(particles, fused):
    without = particles.maps.fuse(None)
    found, alone = error(fused.data, particles.truth), error(without.data, particles.truth)
    # What is chosen is best for the sum of the elements' relative errors, not for each of them.
    assert (found < 1.1 * alone).all() and (found / alone).mean() < 0.8
    assert found[particles.elements.index("Co")] < 0.6 * alone[particles.elements.index("Co")]


@pytest.mark.parametrize("fidelity", ["gaussian", {"S": "gaussian"}])
def test_gaussian_and_mixed_likelihoods(particles, fidelity):
    fused, model = particles.maps.fuse(
        particles.haadf,
        sensitivities=particles.sensitivities,
        fidelity=fidelity,
        return_model=True,
        tolerance=1e-3,
    )
    assert model.converged and fused.data.min() >= 0
    found = error(fused.data, particles.truth)
    assert (found < error(particles.maps.data, particles.truth)).all()


def test_net_counts_with_negative_values(particles):
    """Background-subtracted maps, as those of EELS edges are."""
    rng = np.random.default_rng(0)
    noisy = particles.truth + rng.normal(0, 1.0, particles.truth.data.shape)
    fused, model = noisy.fuse(
        particles.haadf, sensitivities=particles.sensitivities, return_model=True, tolerance=1e-3
    )
    assert model.fidelity == ["gaussian"] * 3
    assert (error(fused.data, particles.truth) < 0.6 * error(noisy.data, particles.truth)).all()


def test_known_background_is_left_out(particles, plain):
    rng = np.random.default_rng(0)
    background = 0.5 + 0.5 * particles.truth.data.mean(axis=0, keepdims=True).repeat(3, axis=0)
    maps = particles.maps + rng.poisson(background)
    options = {"sensitivities": particles.sensitivities, "tolerance": 1e-3, **plain}
    known = maps.fuse(particles.haadf, background=background, **options)
    ignored = maps.fuse(particles.haadf, **options)
    found = error(known.data, particles.truth)
    assert (found < 0.7 * error(ignored.data, particles.truth)).all()
    as_maps = particles.maps._deepcopy_with_new_data(background)
    again = maps.fuse(particles.haadf, background=as_maps, **options)
    np.testing.assert_array_equal(again.data, known.data)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_regularizers(particles, plain, regularization, guided):
    maps, haadf = particles.maps.isig[:64, :64], particles.haadf.isig[:64, :64]
    model = maps.create_model(haadf, sensitivities=particles.sensitivities)
    options = {**plain, "regularization": regularization, "guided": guided}
    model.fit(tolerance=1e-3, max_iterations=3000, **options)
    assert model.converged
    assert (model.regularization, model.guided) == (regularization, guided)
    told = model.fused.metadata.FusedMultiModal
    assert (told.regularization, told.guided) == (regularization, guided)
    terms, again = model.objective(), model.objective(model.fused)
    # That of TGV is a minimum itself, which the solver and the evaluation find each in its own way.
    assert again["regularization"] == pytest.approx(terms["regularization"], rel=5e-3)
    assert again["total"] == pytest.approx(terms["total"], abs=1.01 * model.gap + 1e-6)
    truth = particles.truth.isig[:64, :64]
    assert (error(model.fused.data, truth) < error(maps.data, truth)).all()
