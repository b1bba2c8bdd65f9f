"""Maps and images that begin at different places."""

import warnings

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm


@pytest.fixture
def recording(calibrated):
    """Maps and an image of one scan, 0.5 nm per pixel, from the corner on."""
    rng = np.random.default_rng(0)
    thickness = np.add.outer(np.arange(24.0), np.arange(24.0)) / 10
    counts = [calibrated(rng.poisson(thickness), name, offset=0.0) for name in ("Co", "O")]
    return fmm.element_maps(counts), calibrated(10 + thickness, "HAADF", offset=0.0)


def moved(image, x, y, units="nm"):
    image = image.deepcopy()
    for axis, offset in zip(image.axes_manager.signal_axes, (x, y)):
        axis.offset = offset
        axis.convert_to_units(units)
    return image


WARNING = "^haadf: the first pixel lies at x = 2 nm, y = 0 nm, but that of the element maps at x = 0 nm, y = 0 nm; .*isig"


def test_an_image_that_was_cropped_otherwise(recording, lazy):
    maps, haadf = recording
    maps = maps.as_lazy() if lazy else maps
    with pytest.warns(UserWarning, match=WARNING):
        maps.isig[:20, :20].create_model(haadf.isig[4:, :20])


def test_out_of_core_as_well(recording):
    from hyperspy_fusedmm.models.inputs import image_on_grid

    maps, haadf = recording
    with pytest.warns(UserWarning, match=WARNING):
        image_on_grid(haadf.isig[4:, :20], maps.isig[:20, :20].as_lazy())


def test_maps_among_themselves(recording):
    maps, _ = recording
    one, other = maps.get_map("Co"), maps.get_map("O")
    with pytest.warns(UserWarning, match=r"^source\[1\]: the first pixel lies at .*y = 1 nm, but that of source\[0\] at"):
        fmm.element_maps([one.isig[:, :20], other.isig[:, 2:22]])


@pytest.mark.parametrize(
    "of_maps, of_image, units, warned",
    [
        ((1.0, -2.0), (1.0, -2.0), "nm", False),
        ((1.0, -2.0), (1.2, -2.2), "Å", False),  # less than half a pixel
        ((1.0, -2.0), (1.0, -1.5), "Å", True),
        ((-5.0, -3.5), (0.0, 0.0), "nm", False),  # Velox, counted from the centre
        ((0.0, 0.0), (-5.0, 2.0), "nm", False),
        ((2.0, 0.5), (0.0, 0.0), "µm", True),
        ((0.0, 0.0), (771.3, 86.2), "nm", False),  # a place of the stage: no number of pixels
        ((-5.0, -3.5), (-4.0, -3.5), "nm", True),
    ],
)
def test_which_origins_contradict_each_other(recording, of_maps, of_image, units, warned):
    maps, haadf = recording
    maps, haadf = moved(maps, *of_maps), moved(haadf, *of_image, units=units)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        maps.create_model(haadf)
    assert any("first pixel lies at" in str(warning.message) for warning in told) == warned


@pytest.mark.parametrize("of_maps, warned", [((-5.0, -3.5), False), ((2.0, 1.0), True)])
def test_binned_pixels(recording, of_maps, warned):
    """HyperSpy has them begin at the centre of the first one."""
    maps, haadf = recording
    maps = moved(maps, *of_maps).rebin(scale=(1, 2, 2))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        maps.create_model(haadf.rebin(scale=(2, 2)))
    assert any("first pixel lies at" in str(warning.message) for warning in told) == warned


def test_without_units_nothing_is_known_of_one_of_them(recording):
    maps, haadf = recording
    bare = hs.signals.Signal2D(haadf.data).isig[4:, :20]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*first pixel lies at")
        maps.isig[:20, :20].create_model(bare)


def test_velox_files_are_taken_as_they_are(real_data):
    for name in ("si_16x16_with_maps", "fei_SI_EDS-HAADF-4detectors_2frames"):
        path = real_data(f"velox/{name}.emd")
        lines = ["Cu_Ka", "Si_Ka"]
        maps, haadf = fmm.load_velox(path, lines=lines)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*first pixel lies at")
            maps.create_model(haadf)
            signals = hs.load(path)
            image = next(s for s in signals if s.metadata.General.title == "HAADF")
            maps.create_model(image)
