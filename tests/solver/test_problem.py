"""The objective of a problem against its definition, whatever rows it is evaluated on at a time."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver import FusionProblem, haadf_guide
from hyperspy_fusedmm.solver.operators import gradient, remove_guided

SHAPE = (2, 23, 9)


def pixelwise(fidelity="poisson", **options):
    """A problem all of whose arrays have a value per pixel."""
    rng = np.random.default_rng(0)
    haadf = rng.normal(5.0, 1.0, SHAPE[1:])
    counted = np.broadcast_to(fidelity, SHAPE[0]) == "poisson"
    return FusionProblem(
        rng.poisson(2.0, SHAPE).astype(np.uint16), haadf, [1.0, 0.3], haadf_offset=0.5,
        haadf_noise=rng.uniform(0.5, 2.0, SHAPE[1:]), fidelity=fidelity, gamma=1.5,
        background=rng.uniform(0.1, 1.0, SHAPE) * counted[:, None, None], noise=rng.uniform(0.5, 2.0, SHAPE),
        lambda_haadf=0.7, lambda_chem=1.3, lambda_tv=[0.4, 0.9], guide=haadf_guide(haadf),
        regularization_weights=rng.uniform(0.5, 2.0, SHAPE), **options,
    )  # fmt: skip


def expected_terms(problem, x):
    misfit = (problem.haadf_model(x) - problem.haadf) / problem.haadf_noise
    chem = 0.0
    for i, fidelity in enumerate(problem.fidelity):
        b = problem.maps[i].astype(float)
        if fidelity == "poisson":
            chem += (x[i] - b * np.log(x[i] + problem.background[i])).sum()
        else:
            chem += 0.5 * (((x[i] - b) / problem.noise[i]) ** 2).sum()
    norm = np.sqrt((remove_guided(gradient(x), problem.guide) ** 2).sum(axis=1))
    variation = problem.lambda_tv[:, None, None] * problem.regularization_weights * norm
    return {
        "haadf": 0.5 * problem.lambda_haadf * (misfit**2).sum(),
        "chem": problem.lambda_chem * chem,
        "regularization": variation.sum(),
    }


@pytest.mark.parametrize("band", [1, 2, 5, 22, 23, 256])
@pytest.mark.parametrize("forward", ["linear", "power"])
def test_the_objective_is_its_definition(monkeypatch, band, forward):
    monkeypatch.setattr("hyperspy_fusedmm.solver.problem.BAND", band)
    problem = pixelwise(("poisson", "gaussian"), forward=forward)
    x = np.random.default_rng(1).uniform(0.1, 4.0, SHAPE)
    found, expected = problem.objective(x), expected_terms(problem, x)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-12), name
    assert found["total"] == pytest.approx(sum(expected.values()), rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 7), (1, 7, 1), (2, 1, 1)])
def test_images_of_one_row_or_column(shape):
    counts = np.random.default_rng(0).poisson(3.0, shape)
    problem = FusionProblem(counts, background=0.5, lambda_tv=0.6, regularization_weights=np.ones(shape))
    variation = np.abs(np.diff(counts.astype(float), axis=1)).sum()
    variation += np.abs(np.diff(counts.astype(float), axis=2)).sum()
    assert problem.objective(counts)["regularization"] == pytest.approx(0.6 * variation)


def test_strengths_keep_the_precision_of_the_weights_per_pixel():
    weights = np.ones(SHAPE, np.float32)
    problem = FusionProblem(np.ones(SHAPE), lambda_tv=0.3, regularization_weights=weights)
    assert problem.strengths().dtype == np.float32
    np.testing.assert_allclose(problem.strengths(), 0.3, rtol=1e-6)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_maps_in_single_precision_have_the_same_objective(regularization):
    problem = pixelwise(regularization=regularization)
    x = np.random.default_rng(1).uniform(0.1, 4.0, SHAPE).astype(np.float32)
    found, expected = problem.objective(x), problem.objective(x.astype(float))
    assert found == pytest.approx(expected, rel=1e-12)
