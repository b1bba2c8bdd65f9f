"""Phases in a histogram: known ones come back, and no more than there are."""

import numpy as np
import pytest

from hyperspy_fusedmm.solver.mixture import binned, density, fit_phases


def drawn(*phases, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(mean, spread, number) for mean, spread, number in phases])


def found(values, phases="auto"):
    return fit_phases(*binned(values), phases)


@pytest.mark.parametrize(
    "phases",
    [
        [(40, 1.5, 20_000)],
        [(20, 2, 6000), (50, 3, 4000)],
        [(5, 1, 500), (30, 4, 9000), (60, 4, 900)],
        [(33, 1, 5000), (40, 1, 5000), (50, 1, 5000), (60, 2, 3000)],
    ],
)
def test_known_phases_come_back(phases):
    result = found(drawn(*phases))
    assert len(result) == len(phases)
    total = sum(number for _, _, number in phases)
    for phase, (mean, spread, number) in zip(result, phases):
        assert phase.mean == pytest.approx(mean, abs=5 * spread / np.sqrt(number))
        assert phase.spread == pytest.approx(spread, rel=0.15)
        assert phase.share == pytest.approx(number / total, abs=0.02)


def test_a_number_asked_for_is_obeyed():
    values = drawn((20, 2, 6000), (25, 2, 6000))
    # Their peaks are not apart, so that they have to be asked for.
    assert len(found(values)) == 1
    first, second = found(values, 2)
    assert first.mean == pytest.approx(20, abs=0.4) and second.mean == pytest.approx(25, abs=0.4)
    assert len(found(values, 3)) == 3


@pytest.mark.parametrize(
    "draw", [lambda r: r.gamma(4, 2, 20_000), lambda r: r.standard_t(3, 20_000)]
)
def test_a_peak_that_is_no_gaussian_is_one_phase(draw):
    assert len(found(draw(np.random.default_rng(0)))) == 1


def test_what_has_no_peak_has_no_phase():
    assert found(np.random.default_rng(0).uniform(0, 100, 20_000)) == []


def test_outliers_are_in_no_phase():
    values = np.concatenate([drawn((50, 1, 9500)), np.linspace(0, 100, 500)])
    (phase,) = found(values)
    assert phase.mean == pytest.approx(50, abs=0.1) and phase.spread == pytest.approx(1, rel=0.05)
    assert phase.share == pytest.approx(0.95, abs=0.01)


def test_equal_values_are_one_phase_without_spread():
    (phase,) = found(np.full(100, np.float32(40.1)))
    assert phase.mean == pytest.approx(40.1) and phase.spread == 0 and phase.share == 1


def test_many_equal_values_beside_others():
    first, second = found(np.concatenate([np.zeros(5000), drawn((30, 5, 5000))]))
    assert abs(first.mean) < 0.1 and first.spread < 0.1
    assert first.share == pytest.approx(0.5, abs=0.01)
    assert second.mean == pytest.approx(30, abs=0.5)


def test_units_and_origin_do_not_matter():
    values = drawn((20, 2, 6000), (50, 3, 4000))
    for here, there in zip(found(values), found(1e-3 * values - 7)):
        assert there.mean == pytest.approx(1e-3 * here.mean - 7, rel=1e-4)
        assert there.spread == pytest.approx(1e-3 * here.spread, rel=1e-3)


def test_it_is_the_same_every_time_and_in_any_order():
    values = drawn((20, 2, 6000), (50, 3, 4000))
    assert found(values) == found(values.copy())
    for one, other in zip(found(values), found(values[::-1])):
        assert one.mean == pytest.approx(other.mean, rel=1e-9)


def test_missing_values_do_not_count():
    values = drawn((40, 1, 1000))
    with_missing = np.concatenate([values, np.full(500, np.nan)]).reshape(30, 50)
    assert found(with_missing) == found(values)
    assert found(np.full((3, 3), np.nan)) == []


def test_no_more_phases_than_values():
    assert len(found(np.array([1.0, 2.0]), 4)) == 2


def test_density_integrates_to_the_shares():
    phases = found(drawn((20, 2, 6000), (50, 3, 4000)))
    position = np.linspace(0, 100, 10_001)
    areas = density(position, phases).sum(axis=1) * 0.01
    np.testing.assert_allclose(areas, [phase.share for phase in phases], rtol=1e-3)
