"""Windows are eXSpy's to the channel; gross less background is what eXSpy calls net."""

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.io._background import _own_weight, _risk, expected_counts

LINES = ["Fe_Ka", "O_Ka", "Cu_Ka"]
# Within eXSpy's reach: whole windows inside the energy range, all of them more than one channel.
WINDOWS = [[6.2, 6.6], [0.4, 0.7], [7.9, 8.2]]
BACKGROUND = [[5.5, 5.9, 6.8, 6.9], [0.3, 0.35, 0.8, 0.9], [7.2, 7.6, 8.5, 8.8]]


def spectrum_image(path):
    cube = hs.load(path, select_type="spectrum_image")
    return cube[-1] if isinstance(cube, list) else cube


def stacked(signals):
    return np.stack([signal.data for signal in signals])


@pytest.mark.parametrize("width", [0.3, 2.0, 40])
@pytest.mark.parametrize("dispersion, offset", [(10, 0), (7.3, -101), (20, 480)])
def test_widths_of_the_windows(make_velox, width, dispersion, offset):
    """Windows wider than the spectrum, and lines beside its end, are cut as eXSpy cuts them."""
    path = make_velox(dispersion=dispersion, offset=offset, n_channels=450)
    cube = spectrum_image(path)
    axis = cube.axes_manager.signal_axes[0]
    known = ["C_Ka", "O_Ka", "Co_La", "Cu_La", "Al_Ka", "Si_Ka", "S_Ka", "Fe_Ka", "Zn_Ka"]
    lines = [
        line for line in known if axis.low_value < cube._get_line_energy(line) < axis.high_value
    ]
    assert len(lines) >= 5
    maps, _ = fmm.load_velox(path, lines=lines, energy_windows=width)
    expected = cube.get_lines_intensity(lines, integration_windows=width)
    np.testing.assert_array_equal(maps.data, stacked(expected))


def test_given_windows(make_velox):
    path = make_velox()
    cube = spectrum_image(path)
    expected = stacked(cube.get_lines_intensity(LINES, integration_windows=WINDOWS))
    for windows in (WINDOWS, np.array(WINDOWS), dict(zip(LINES, WINDOWS))):
        maps, _ = fmm.load_velox(path, lines=LINES, energy_windows=windows)
        np.testing.assert_array_equal(maps.data, expected)
        np.testing.assert_array_equal(maps.metadata.Velox.energy_windows, WINDOWS)
    maps, _ = fmm.load_velox(path, lines=LINES, energy_windows={"O_Ka": (0.4, 0.7)})
    np.testing.assert_array_equal(maps.data[1], expected[1])
    np.testing.assert_array_equal(
        maps.data[::2], stacked(cube.get_lines_intensity(["Fe_Ka", "Cu_Ka"]))
    )


def test_lines_and_elements_in_the_order_asked_for(make_velox):
    path = make_velox()
    maps, _ = fmm.load_velox(path, elements=["O", "Al", "Cu"], lines=["Cu_La", "Si_Ka"])
    assert maps.elements == ["O", "Al", "Cu", "Si"]
    assert maps.metadata.Sample.xray_lines == ["O_Ka", "Al_Ka", "Cu_La", "Si_Ka"]
    expected = spectrum_image(path).get_lines_intensity(["O_Ka", "Al_Ka", "Cu_La", "Si_Ka"])
    np.testing.assert_array_equal(maps.data, stacked(expected))


def test_the_line_of_an_element_is_that_of_exspy(make_velox):
    path = make_velox()
    elements = ["Au", "Pb", "U", "Ag", "Fe", "C"]
    maps, _ = fmm.load_velox(path, elements=elements)
    cube = spectrum_image(path)
    cube.set_elements(elements)
    chosen = {
        signal.metadata.Sample.elements[0]: signal.metadata.Sample.xray_lines[0]
        for signal in cube.get_lines_intensity()
    }
    assert maps.metadata.Sample.xray_lines == [chosen[element] for element in elements]


def test_several_lines_of_one_element_are_added(make_velox):
    path = make_velox()
    maps, _ = fmm.load_velox(path, lines=["Cu_Ka", "Cu_La"])
    both = spectrum_image(path).get_lines_intensity(["Cu_Ka", "Cu_La"])
    assert maps.elements == ["Cu"]
    np.testing.assert_array_equal(maps.data[0], stacked(both).sum(axis=0))


def test_an_xray_in_two_windows_of_one_element_is_counted_once(make_velox):
    path = make_velox()
    windows = {"Fe_Ka": (6.0, 7.0), "Fe_Kb": (6.5, 7.5)}
    maps, _ = fmm.load_velox(path, lines=list(windows), energy_windows=windows)
    (union,) = spectrum_image(path).get_lines_intensity(["Fe_Ka"], integration_windows=[[6.0, 7.5]])
    np.testing.assert_array_equal(maps.data[0], union.data)
    # Of two elements it counts for both, as in eXSpy.
    windows = {"Fe_Ka": (6.0, 7.0), "Co_Ka": (6.5, 7.5)}
    maps, _ = fmm.load_velox(path, lines=list(windows), energy_windows=windows)
    expected = spectrum_image(path).get_lines_intensity(
        list(windows), integration_windows=list(map(list, windows.values()))
    )
    np.testing.assert_array_equal(maps.data, stacked(expected))


@pytest.mark.parametrize("background", ["auto", BACKGROUND])
def test_gross_less_background_is_net(make_velox, background):
    path = make_velox()
    maps, _ = fmm.load_velox(
        path, lines=LINES, background_windows=background, smooth_background=False
    )
    cube = spectrum_image(path)
    gross = cube.get_lines_intensity(LINES)
    np.testing.assert_array_equal(maps.data, stacked(gross))
    if background == "auto":
        background = cube.estimate_background_windows(xray_lines=LINES)
    net = cube.get_lines_intensity(LINES, background_windows=background)
    counts = maps.metadata.Background.counts
    assert counts.axes_manager.signal_axes[0].scale == maps.axes_manager.signal_axes[0].scale
    np.testing.assert_allclose(maps.data - counts.data, stacked(net), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(maps.metadata.Background.windows, background)


def test_gross_less_background_is_net_in_a_real_file(real_data):
    path = str(real_data("velox/fei_SI_EDS-HAADF-4detectors_2frames.emd"))
    lines = ["Au_Ma", "Pd_La", "Cu_Ka", "Si_Ka"]
    maps, _ = fmm.load_velox(path, lines=lines, background_windows="auto", smooth_background=False)
    cube = spectrum_image(path)
    windows = cube.estimate_background_windows(xray_lines=lines)
    net = stacked(cube.get_lines_intensity(lines, background_windows=windows))
    np.testing.assert_allclose(maps.data - maps.metadata.Background.counts.data, net, rtol=1e-5)
    assert net.min() < 0 or np.any(net != np.rint(net))


def test_backgrounds_of_several_lines_are_added(make_velox):
    path = make_velox()
    windows = {"Cu_Ka": BACKGROUND[2], "Cu_La": [0.7, 0.8, 1.1, 1.2]}
    both, _ = fmm.load_velox(
        path, lines=list(windows), background_windows=windows, smooth_background=False
    )
    singles = [
        fmm.load_velox(
            path, lines=[line], background_windows={line: window}, smooth_background=False
        )[0].metadata.Background.counts.data
        for line, window in windows.items()
    ]
    np.testing.assert_allclose(both.metadata.Background.counts.data, sum(singles), rtol=1e-6)


def test_the_smooth_background_keeps_its_sum(make_velox):
    path = make_velox(shape=(24, 24))
    options = {"lines": LINES, "background_windows": BACKGROUND}
    smooth, _ = fmm.load_velox(path, **options)
    pixels, _ = fmm.load_velox(path, smooth_background=False, **options)
    smooth, pixels = (maps.metadata.Background.counts.data for maps in (smooth, pixels))
    np.testing.assert_allclose(smooth.sum(axis=(1, 2)), pixels.sum(axis=(1, 2)), rtol=0.02)
    # These events know no position, so nothing but the mean is left.
    assert np.all(smooth.std(axis=(1, 2)) < 0.2 * pixels.std(axis=(1, 2)))


@pytest.mark.parametrize("mean", [0.05, 1, 30])
def test_the_blur_comes_near_the_best(mean):
    """Its error is at most a tenth above that of the best of all widths, chosen with the truth."""
    from scipy.ndimage import gaussian_filter

    rows, columns = np.mgrid[:96, :96]
    truth = 1 + np.sin(rows / 7) * np.cos(columns / 9) + (np.hypot(rows - 40, columns - 50) < 20)
    truth *= mean / truth.mean()
    errors, best = [], []
    for seed in range(4):
        counts = np.random.default_rng(seed).poisson(truth)
        errors.append(np.sum((expected_counts(counts) - truth) ** 2))
        candidates = [gaussian_filter(counts.astype(float), s) for s in np.geomspace(0.3, 24, 40)]
        candidates.append(np.full(truth.shape, counts.mean()))
        best.append(min(np.sum((candidate - truth) ** 2) for candidate in candidates))
    assert np.sum(errors) < 1.1 * np.sum(best)


def test_the_risk_is_the_error_up_to_a_constant():
    """On average over the counts, which is what its formula promises."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    truth = 2 + np.sin(np.arange(400).reshape(20, 20) / 30)
    constant = np.sum(truth**2)
    for sigma in (0.5, 1.0, 3.0):
        errors, risks = [], []
        for _ in range(400):
            counts = rng.poisson(truth).astype(float)
            blurred = gaussian_filter(counts, sigma, mode="wrap")
            errors.append(np.sum((blurred - truth) ** 2))
            risks.append(_risk(blurred, counts, _own_weight(sigma)) + constant)
        spread = np.std(np.subtract(errors, risks)) / np.sqrt(len(errors))
        assert abs(np.mean(errors) - np.mean(risks)) < 4 * spread


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (5, 3)])
@pytest.mark.parametrize("value", [0, 3])
def test_a_constant_stays_a_constant(shape, value):
    np.testing.assert_allclose(expected_counts(np.full(shape, value)), value)
