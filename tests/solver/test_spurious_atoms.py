"""Atoms where there are none: the power model at few counts, and the start that guards against them.

At few counts the power model has many stationary points. Which element a bright pixel belongs to
is then decided by single counts: dysprosium, of which few atoms explain much of the image, turns
up between its columns.
"""

import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.solver import FusionProblem, solve


@pytest.fixture(scope="module")
def lattice():
    specimen = fmm.data.perovskite_lattice(shape=(128, 128), dose=0.3, forward="power")
    counts = specimen.maps.data
    problem = FusionProblem(
        counts,
        specimen.haadf.data,
        specimen.weights,
        specimen.haadf_offset,
        specimen.haadf_noise,
        lambda_tv=0.6 / np.sqrt(counts.mean(axis=(1, 2))),
        forward="power",
        gamma=specimen.gamma,
    )
    return problem, specimen.truth.data.astype(float)


@pytest.fixture(scope="module")
def maps(lattice):
    problem, _ = lattice
    return {
        initial: solve(problem, initial=initial).maps
        for initial in (None, "measured", "multiresolution")
    }


@pytest.fixture(scope="module")
def between(lattice):
    """Pixels between the columns of each element."""
    _, truth = lattice
    return truth < 0.2 * truth.mean(axis=(1, 2), keepdims=True)


def test_the_objective_ends_lower(lattice, maps):
    problem, _ = lattice
    total = {initial: problem.objective(x)["total"] for initial, x in maps.items()}
    assert total["multiresolution"] < 0.998 * total[None]
    assert total["multiresolution"] < 0.8 * total["measured"]


def test_dysprosium_is_not_where_there_is_none(lattice, maps, between):
    """From the solution of the linear model it spreads between its columns."""
    _, truth = lattice
    true, plain, coarse = (
        x[0][between[0]].mean() / truth[0].mean()
        for x in (truth, maps[None], maps["multiresolution"])
    )
    assert true < 0.05
    assert plain > 4 * true
    assert coarse < 0.65 * plain


def test_no_single_pixels_shine_between_the_columns(lattice, maps, between):
    """From the measured maps single counts of oxygen become as bright as columns."""
    _, truth = lattice
    measured, coarse = (
        np.quantile(maps[initial][2][between[2]], 0.99) / truth[2].max()
        for initial in ("measured", "multiresolution")
    )
    assert measured > 0.6
    assert coarse < 0.4


@pytest.mark.parametrize("initial", [None, "measured"])
def test_every_map_is_closer_to_the_truth(lattice, maps, initial):
    _, truth = lattice
    error, other = (
        np.sqrt(((maps[start] - truth) ** 2).mean(axis=(1, 2)))
        for start in ("multiresolution", initial)
    )
    assert (error < other).all()
    assert (error[[0, 2]] < 0.9 * other[[0, 2]]).all()
