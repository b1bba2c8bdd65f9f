import dask.array as da
import hyperspy.api as hs
import matplotlib.pyplot as plt
import numpy as np
import pytest

from hyperspy_fusedmm.drawing.image import (
    add_scale_bar,
    color_limits,
    display_data,
    nice_length,
    show_image,
    units_of,
    value_label,
)


def image(data, scale=0.5, offset=0.0, units="nm"):
    signal = hs.signals.Signal2D(data)
    for axis in signal.axes_manager.signal_axes:
        axis.scale, axis.offset, axis.units = scale, offset, units
    return signal


def test_edges_are_half_a_pixel_beyond_the_centres():
    data, extent = display_data(image(np.arange(12.0).reshape(3, 4), scale=0.5, offset=10.0))
    np.testing.assert_array_equal(data, np.arange(12.0).reshape(3, 4))
    assert extent == (9.75, 11.75, 11.25, 9.75)


@pytest.mark.parametrize("lazy", [False, True])
def test_large_images_are_averaged_in_squares(lazy):
    values = np.arange(7 * 11, dtype=float).reshape(7, 11)
    signal = image(values)
    if lazy:
        signal = signal.as_lazy()
        signal.data = da.from_array(values, chunks=(4, 5))
    data, extent = display_data(signal, largest_size=6)
    assert data.shape == (3, 5)
    assert data[0, 0] == values[:2, :2].mean()
    assert data[2, 4] == values[4:6, 8:10].mean()
    # The row and the column that do not fill a square are left out of the extent too.
    assert extent == (-0.25, 4.75, 2.75, -0.25)


def test_first_row_is_on_top():
    _, ax = plt.subplots()
    data, extent = display_data(image(np.eye(5)))
    shown = show_image(ax, data, extent)
    left, right, bottom, top = shown.get_extent()
    assert bottom > top and right > left
    assert ax.get_ylim() == (bottom, top)
    assert shown.origin == "upper"
    assert list(ax.get_xticks()) == list(ax.get_yticks()) == []


def test_color_limits_ignore_outliers():
    rng = np.random.default_rng(0)
    counts = rng.uniform(0, 10, (100, 100))
    counts[3, 4] = 1e6
    low, high = color_limits(counts)
    assert low == 0
    assert high == pytest.approx(10, rel=0.01)
    low, high = color_limits(1000 + counts)
    assert low == pytest.approx(1000, abs=0.1)


def test_color_limits_of_images_with_little_in_them():
    assert color_limits(np.zeros((5, 5))) == (0, 1)
    assert color_limits(np.full((5, 5), np.nan)) == (0, 1)
    low, high = color_limits(np.full((5, 5), 7.0))
    assert low == 7 and high > low
    single = np.zeros((100, 100))
    single[2, 2] = 4.0
    assert color_limits(single) == (0, 4)


@pytest.mark.parametrize(
    "width, length", [(64, 10), (80, 20), (100, 20), (8, 2), (3.9, 0.5), (0.04, 0.01), (2000, 500)]
)
def test_scale_bars_are_one_two_or_five(width, length):
    assert nice_length(width) == pytest.approx(length)


@pytest.mark.parametrize("shape", [(30, 160), (160, 160), (400, 160)])
def test_scale_bar_is_as_long_as_it_says(shape):
    _, ax = plt.subplots()
    signal = image(np.ones(shape), scale=0.5)
    show_image(ax, *display_data(signal))
    limits = ax.get_xlim(), ax.get_ylim()
    bar, label = add_scale_bar(ax, signal)
    assert label.get_text() == "20 nm"
    assert np.ptp(bar.get_xdata()) == pytest.approx(20)
    assert (ax.get_xlim(), ax.get_ylim()) == limits
    # In the lower left corner.
    assert limits[0][0] < bar.get_xdata()[0] < limits[0][0] + 0.1 * 80
    assert bar.get_ydata()[0] > 0.9 * shape[0] * 0.5
    assert label.xy[0] == pytest.approx(np.mean(bar.get_xdata()))


def test_units_as_printed():
    for units, printed in {"nm": "nm", "um": "µm", "µm": "µm", "": "px"}.items():
        assert units_of(image(np.ones((3, 3)), units=units)) == printed
    assert units_of(hs.signals.Signal2D(np.ones((3, 3)))) == "px"


def test_values_are_called_counts_where_they_are():
    counts = hs.signals.Signal2D(np.random.default_rng(0).poisson(3, (2, 5, 5)).astype(float))
    assert value_label(counts) == "Counts"
    assert value_label(counts * 0.3) == ""
    counts.metadata.Signal.quantity = "X-rays (Counts)"
    assert value_label(counts) == "X-rays (Counts)"
