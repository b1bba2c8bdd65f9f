"""The tiled, threaded iteration against plain NumPy."""

import numpy as np
import pytest
from reference import iterate

from hyperspy_fusedmm.solver._rows import Data, Steps
from hyperspy_fusedmm.solver._tiles import most_iterations, planes
from hyperspy_fusedmm.solver.tile_engine import PLACES, TileEngine


def make_data(
    elements=3, shape=(40, 50), guided=False, varying=False, anchored=False, relative=False, seed=0
):
    rng = np.random.default_rng(seed)
    truth = 2 + rng.random((elements,) + shape)
    counts = rng.poisson(truth)
    weights = np.linspace(1, 2, elements)
    haadf = (weights[:, None, None] * truth).sum(axis=0) + 0.3 * rng.normal(size=shape)
    row = (elements, 1, shape[1])
    full = (elements,) + shape
    angle = rng.uniform(0, 2 * np.pi, shape)
    length = rng.uniform(0, 0.99, shape)
    arrays = (
        counts,
        rng.uniform(0, 0.5, full) if varying else np.full(row, 0.2),
        rng.uniform(0.1, 1, full) if varying else np.full(row, 0.4),
        rng.uniform(0, 2, full) if varying else np.broadcast_to(weights[:, None, None], row),
        haadf[None],
        rng.uniform(0, 9, (1,) + shape) if varying else np.full((1, 1, shape[1]), 9.0),
        length * np.stack([np.cos(angle), np.sin(angle)]) if guided else np.zeros((0, 1, 1)),
        rng.uniform(0, 3, full) if anchored else np.zeros((0, 1, 1)),
        rng.uniform(0, 2, full) if anchored else np.zeros((0, 1, 1)),
        rng.normal(size=(1,) + shape) if relative else np.zeros((0, 1, 1)),
    )
    return Data(*(np.ascontiguousarray(a, dtype=np.float32) for a in arrays))


def make_steps(elements=3, fidelity=0, newton=8, relaxation=1.7, nearness=0.0):
    return Steps(
        fidelity=np.broadcast_to(fidelity, elements).astype(np.int64),
        chem=np.linspace(1, 1.5, elements, dtype=np.float32),
        slope=np.linspace(0.8, 1.7, elements, dtype=np.float32),
        reference_scale=np.linspace(-0.5, 1.5, elements, dtype=np.float32),
        balance=np.linspace(0.5, 2, elements, dtype=np.float32),
        typical_strength=np.full(elements, 0.5, np.float32),
        nearness=np.float32(nearness),
        curvature_ratio=np.float32(2),
        slope_unit=np.float32(0.7),
        relaxation=np.float32(relaxation),
        newton=newton,
    )


def run(data, steps, iterations, regularization, tiles=None, num_workers=2):
    with TileEngine(data, regularization, num_workers=num_workers, tiles=tiles) as engine:
        engine.state[: len(data.counts)] = data.counts
        engine.advance(steps, iterations)
        return engine.state


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("fidelity", [0, 1, [0, 1, 0]])
@pytest.mark.parametrize("relative", [False, True])
def test_one_tile_equals_plain_numpy(regularization, guided, fidelity, relative):
    data = make_data(guided=guided, varying=True, relative=relative)
    steps = make_steps(fidelity=fidelity)
    expected = np.zeros((planes(3, regularization),) + data.counts.shape[1:])
    expected[:3] = data.counts
    expected = iterate(expected, data, steps, 25, regularization)
    found = run(data, steps, 25, regularization)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("varying", [False, True])
def test_proximal_term_equals_plain_numpy(regularization, varying):
    data = make_data(varying=varying, anchored=True)
    steps = make_steps(fidelity=[0, 1, 0], nearness=0.7)
    expected = np.zeros((planes(3, regularization),) + data.counts.shape[1:])
    expected[:3] = data.counts
    expected = iterate(expected, data, steps, 25, regularization)
    for tiles in (([0, 40], [0, 50]), ([0, 21, 40], [0, 24, 50])):
        found = run(data, steps, 25, regularization, tiles=tiles)
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(
    "tiles",
    [
        ([0, 20, 40], [0, 50]),
        ([0, 40], [0, 25, 50]),
        ([0, 13, 28, 40], [0, 17, 33, 50]),
        ([0, 3, 10, 40], [0, 11, 50]),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_tiles_do_not_change_the_result(regularization, guided, tiles, relative):
    data, steps = make_data(guided=guided, relative=relative), make_steps()
    whole = run(data, steps, 30, regularization, tiles=([0, 40], [0, 50]))
    tiled = run(data, steps, 30, regularization, tiles=tiles)
    # x, and the fields up to rounding; the relaxation inside visits is the same
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (37, 1), (2, 2), (3, 130), (130, 3)])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("guided", [False, True])
def test_thin_images(shape, regularization, guided):
    data, steps = make_data(shape=shape, guided=guided), make_steps()
    expected = np.zeros((planes(3, regularization),) + shape)
    expected[:3] = data.counts
    expected = iterate(expected, data, steps, 12, regularization)
    found = run(data, steps, 12, regularization)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


def test_number_of_threads_does_not_change_the_result():
    data, steps = make_data(shape=(150, 90)), make_steps()
    tiles = ([0, 50, 100, 150], [0, 45, 90])
    one = run(data, steps, 20, "tv", tiles=tiles, num_workers=1)
    three = run(data, steps, 20, "tv", tiles=tiles, num_workers=3)
    np.testing.assert_array_equal(one, three)


def test_default_tiles_cover_the_image_and_change_nothing():
    data, steps = make_data(elements=1, shape=(301, 1203)), make_steps(elements=1)
    whole = run(data, steps, 9, "tv", tiles=([0, 301], [0, 1203]))
    tiled = run(data, steps, 9, "tv")
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
@pytest.mark.parametrize("iterations", [1, 3, 4, 16, 37])
def test_several_iterations_of_a_visit_change_nothing(regularization, guided, iterations):
    data, steps = make_data(shape=(90, 75), guided=guided, varying=True), make_steps()
    tiles = ([0, 40, 90], [0, 21, 50, 75])
    with TileEngine(data, regularization, tiles=tiles) as engine:
        assert engine._halo == most_iterations(PLACES, regularization)
    whole = run(data, steps, iterations, regularization, tiles=([0, 90], [0, 75]))
    tiled = run(data, steps, iterations, regularization, tiles=tiles)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_part_of_an_image_with_a_halo_equals_the_whole_inside(regularization):
    data, steps = make_data(shape=(90, 110), guided=True, varying=True), make_steps()
    whole = run(data, steps, 20, regularization)
    part = Data(*(np.ascontiguousarray(a[:, 10:70, 30:110]) if a.shape[1] > 1 else a for a in data))
    with TileEngine(
        part, regularization, num_workers=2, tiles=([0, 30, 60], [0, 41, 80]),
        borders=(False, False, False, True),
    ) as engine:  # fmt: skip
        engine.state[:3] = part.counts
        engine.advance(steps, 20)
        inside = engine.state[:, 20:40, 20:]
    np.testing.assert_allclose(inside, whole[:, 30:50, 50:], rtol=0, atol=2e-5)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("regularization", ["tv", "tgv"])
def test_what_a_thread_worked_on_before_does_not_matter(regularization, guided):
    # The state of one tile must not leak into the next, which is narrower, through the rings.
    data, steps = make_data(shape=(30, 190), guided=guided, varying=True), make_steps()
    whole = run(data, steps, 6, regularization, tiles=([0, 30], [0, 190]))
    tiles = ([0, 30], [0, 120, 140, 190])
    found = run(data, steps, 6, regularization, tiles=tiles, num_workers=1)
    np.testing.assert_allclose(found, whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("iterations", [1, most_iterations(PLACES, "tv")])
def test_images_of_more_rows_than_a_ring_has_places(iterations):
    shape = (5 * PLACES, 3)
    data, steps = make_data(elements=1, shape=shape), make_steps(elements=1)
    expected = np.zeros((planes(1, "tv"),) + shape)
    expected[:1] = data.counts
    expected = iterate(expected, data, steps, iterations, "tv")
    found = run(data, steps, iterations, "tv", tiles=([0, shape[0]], [0, 3]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)
