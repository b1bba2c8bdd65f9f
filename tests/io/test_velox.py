"""Maps and images are those of RosettaSciIO and eXSpy, without the spectrum image between."""

import os
import shutil
import warnings

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm

SHAPE = (6, 9)

REAL_FILES = {
    # The last of the five frames is not whole; asked for, it is read as RosettaSciIO does.
    "si_small.emd": {"elements": ["C", "O", "Si"], "frames": (0, 5)},
    "si_16x16_with_maps.emd": {},
    "si_empty_selection.emd": {"elements": ["Si", "O"]},
    "fei_SI_EDS-HAADF-4detectors_2frames.emd": {"lines": ["Au_Ma", "Pd_La", "Cu_Ka", "Si_Ka"]},
    "eels_eds_dark.emd": {"elements": ["Co", "Fe", "O", "C"], "haadf": "DF-S"},
}


def as_list(loaded):
    return loaded if isinstance(loaded, list) else [loaded]


def spectrum_image(path, **options):
    """RosettaSciIO's; loaded with the images it takes its grid from the last of them."""
    return as_list(hs.load(path, select_type="spectrum_image", **options))[-1]


def image_frames(path, title):
    images = as_list(hs.load(path, select_type="images", load_SI_image_stack=True))
    shape = spectrum_image(path).axes_manager.navigation_shape
    (image,) = [
        image
        for image in images
        if image.metadata.General.title == title and image.axes_manager.signal_shape == shape
    ]
    return image.data.reshape(-1, *image.data.shape[-2:])


def assert_same_maps(maps, spectrum_image, **options):
    lines = maps.metadata.Sample.xray_lines
    expected = spectrum_image.get_lines_intensity(xray_lines=lines, **options)
    assert len(expected) == len(maps.data)
    for found, signal in zip(maps.data, expected):
        np.testing.assert_array_equal(found, signal.data)


@pytest.mark.filterwarnings("ignore:frame 4 is not whole")
@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files(real_data, name):
    path = str(real_data(f"velox/{name}"))
    options = REAL_FILES[name]
    maps, haadf, spectrum = fmm.load_velox(path, return_spectrum=True, **options)
    cube = spectrum_image(path)
    assert maps.data.dtype.kind == "i"
    assert_same_maps(maps, cube)
    frames = image_frames(path, options.get("haadf", "HAADF"))
    np.testing.assert_array_equal(haadf.data, frames.sum(axis=0))
    np.testing.assert_array_equal(spectrum.data, cube.data.sum(axis=(0, 1)))
    for axis, expected in zip(
        maps.axes_manager.signal_axes + spectrum.axes_manager.signal_axes,
        cube.axes_manager.navigation_axes + cube.axes_manager.signal_axes,
    ):
        assert axis.name == expected.name and axis.units == expected.units
        assert axis.size == expected.size
        np.testing.assert_allclose([axis.scale, axis.offset], [expected.scale, expected.offset])
    for node in ("Acquisition_instrument.TEM.beam_energy", "General.original_filename"):
        assert maps.metadata.get_item(node) == cube.metadata.get_item(node)
        assert spectrum.metadata.get_item(node) == cube.metadata.get_item(node)
    optics = maps.original_metadata.Optics.as_dictionary()
    assert optics and optics == cube.original_metadata.Optics.as_dictionary()


def test_the_grid_is_that_of_the_scan_not_of_the_last_image(real_data):
    """That file holds an overview of 128 x 128 pixels beside the 16 x 20 of its spectra."""
    path = str(real_data("velox/eels_eds_dark.emd"))
    maps, _ = fmm.load_velox(path, elements=["C"], energy_windows=[[-0.1, 0.3]], haadf="DF-S")
    beside_the_images = as_list(hs.load(path))[-1]
    assert beside_the_images.axes_manager.navigation_shape == (128, 128)
    counts = beside_the_images.isig[-0.1:0.3].data.sum(axis=-1).ravel()
    assert counts.sum() > 1000
    np.testing.assert_array_equal(maps.data.ravel(), counts[: 16 * 20])
    assert counts[16 * 20 :].sum() == 0


def test_a_real_last_frame_cut_short_is_left_out(real_data):
    path = str(real_data("velox/si_small.emd"))
    with pytest.warns(UserWarning, match="4 whole frames are read: .*249 of 256 pixels"):
        maps, haadf, spectrum = fmm.load_velox(path, elements=["C", "O"], return_spectrum=True)
    cube = spectrum_image(path, last_frame=4)
    assert_same_maps(maps, cube)
    np.testing.assert_array_equal(spectrum.data, cube.data.sum(axis=(0, 1)))
    np.testing.assert_array_equal(haadf.data, image_frames(path, "HAADF")[:4].sum(axis=0))


@pytest.mark.parametrize("n_detectors", [1, 4])
@pytest.mark.parametrize("n_frames", [1, 3])
@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"frame_tables": False},
        {"events_per_chunk": None},
        {"events_per_chunk": 100, "compression": "gzip"},
        {"events_per_chunk": 3_000_000, "compression": "lzf"},
    ],
    ids=["velox", "no table", "contiguous", "small chunks", "large chunks"],
)
def test_synthetic_files(make_velox, n_detectors, n_frames, storage):
    path = make_velox(n_frames=n_frames, n_detectors=n_detectors, **storage)
    maps, haadf, spectrum = fmm.load_velox(path, return_spectrum=True)
    cube = spectrum_image(path)
    assert maps.elements == ["Fe", "O", "Cu"]
    assert maps.data.sum() > 0
    assert_same_maps(maps, cube)
    np.testing.assert_array_equal(haadf.data, image_frames(path, "HAADF").sum(axis=0))
    np.testing.assert_array_equal(spectrum.data, cube.data.sum(axis=(0, 1)))


@pytest.mark.parametrize(
    "frames, numbers",
    [
        ((1, 4), [1, 2, 3]),
        (slice(0, None, 2), [0, 2, 4]),
        (range(1, 5, 2), [1, 3]),
        ([4, 0, 1], [0, 1, 4]),
        (2, [2]),
        (None, [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("table", [True, False])
def test_frames(make_velox, frames, numbers, table):
    path = make_velox(n_frames=5, frame_tables=table)
    maps, haadf, spectrum = fmm.load_velox(path, frames=frames, return_spectrum=True)
    single = spectrum_image(path, sum_frames=False)
    cube = single.inav[:, :, 0].deepcopy()
    cube.data = single.data[numbers].sum(axis=0)
    assert_same_maps(maps, cube)
    np.testing.assert_array_equal(spectrum.data, cube.data.sum(axis=(0, 1)))
    np.testing.assert_array_equal(haadf.data, image_frames(path, "HAADF")[numbers].sum(axis=0))
    assert maps.metadata.Velox.frames == numbers
    item = "Acquisition_instrument.TEM.Detector.EDS.number_of_frames"
    assert maps.metadata.get_item(item) == len(numbers)


@pytest.mark.parametrize("chunks, blocks", [("auto", (5,)), (2, (2, 2, 1)), (9, (5,))])
def test_single_frames_are_lazy_and_add_up(make_velox, chunks, blocks):
    path = make_velox(n_frames=5)
    stack, images, spectrum = fmm.load_velox(
        path, sum_frames=False, chunks=chunks, return_spectrum=True
    )
    assert isinstance(stack, fmm.LazyElementMaps)
    assert stack.data.shape == (5, 3, *SHAPE)
    assert stack.data.chunks[0] == blocks
    assert [axis.name for axis in stack.axes_manager.navigation_axes] == ["Element", "Frame"]
    single = spectrum_image(path, sum_frames=False)
    for k, line in enumerate(stack.metadata.Sample.xray_lines):
        (expected,) = single.get_lines_intensity(xray_lines=[line])
        np.testing.assert_array_equal(stack.data[:, k].compute(), expected.data)
    np.testing.assert_array_equal(images.data.compute(), image_frames(path, "HAADF"))
    maps, haadf, spectrum_of_sum = fmm.load_velox(path, return_spectrum=True)
    summed = stack.sum("Frame")
    assert summed.elements == maps.elements
    summed.compute()
    assert isinstance(summed, fmm.ElementMaps)
    np.testing.assert_array_equal(summed.data, maps.data)
    np.testing.assert_array_equal(images.sum("Frame").data.compute(), haadf.data)
    np.testing.assert_array_equal(spectrum.data, spectrum_of_sum.data)
    second = stack.inav[:, 1]
    assert second.elements == maps.elements
    second.compute()
    np.testing.assert_array_equal(second.data, stack.data[1].compute())


def test_the_frame_axis_names_the_frames_of_the_file(make_velox):
    path = make_velox(n_frames=6)
    for frames, numbers in ((slice(1, 6, 2), [1, 3, 5]), ([0, 1, 4], [0, 1, 4]), (2, [2])):
        stack, images = fmm.load_velox(path, frames=frames, sum_frames=False)
        for axis in (stack.axes_manager["Frame"], images.axes_manager["Frame"]):
            assert axis.axis.tolist() == numbers
    np.testing.assert_array_equal(images.data.compute()[0], image_frames(path, "HAADF")[2])


def test_single_frames_can_be_sent_to_other_processes(make_velox):
    import cloudpickle

    stack, images = fmm.load_velox(make_velox(), sum_frames=False)
    for signal in (stack, images):
        again = cloudpickle.loads(cloudpickle.dumps(signal.data))
        np.testing.assert_array_equal(again.compute(), signal.data.compute())


@pytest.mark.parametrize(
    "detectors, positions",
    [
        ("SuperXG22", [1]),
        (2, [2]),
        (["SuperXG23", 0], [0, 2]),
        (None, [0, 1, 2]),
    ],
)
def test_detectors(make_velox, detectors, positions):
    path = make_velox(n_detectors=3)
    maps, _, spectrum = fmm.load_velox(path, detectors=detectors, return_spectrum=True)
    names = [f"SuperXG2{k + 1}" for k in positions]
    assert sorted(maps.metadata.Velox.detectors) == names
    cubes = as_list(hs.load(path, select_type="spectrum_image", sum_EDS_detectors=False))
    # In the order of random names in the file, so by their metadata.
    chosen = [c for c in cubes if c.original_metadata.BinaryResult.Detector in names]
    cube = chosen[0]
    cube.data = sum(c.data.astype(int) for c in chosen)
    assert_same_maps(maps, cube)
    np.testing.assert_array_equal(spectrum.data, cube.data.sum(axis=(0, 1)))


def test_several_spectrum_images_are_told_apart_by_number(make_velox, random_stream):
    rng = np.random.default_rng(5)
    streams = {name: random_stream(rng, 2, 54) for name in ("SuperXG21", "SuperXG21 ")}
    path = make_velox(streams=streams, n_frames=2)
    with pytest.raises(ValueError, match="several spectrum images.*0: SuperXG21.*1: SuperXG21"):
        fmm.load_velox(path)
    with pytest.raises(ValueError, match="2 streams are called 'SuperXG21'"):
        fmm.load_velox(path, detectors="SuperXG21")
    totals = set()
    for number in (0, 1):
        maps, _, spectrum = fmm.load_velox(path, detectors=number, return_spectrum=True)
        totals.add(int(spectrum.data.sum()))
    assert totals == {
        sum(int(np.sum(block != 65535)) for frame in frames for block in frame)
        for frames in streams.values()
    }


def test_several_images_are_told_apart(make_velox):
    rng = np.random.default_rng(6)
    first, second, other = (rng.integers(0, 999, (3, *SHAPE)).astype(np.uint16) for _ in range(3))
    overview = rng.integers(0, 999, (1, 20, 20)).astype(np.uint16)
    path = make_velox(images={"HAADF": first, "HAADF ": overview, "DF4": other}, shape=SHAPE)
    # The overview does not lie on the grid.
    np.testing.assert_array_equal(fmm.load_velox(path)[1].data, first.sum(axis=0))
    _, found = fmm.load_velox(path, haadf="DF4")
    np.testing.assert_array_equal(found.data, other.sum(axis=0))
    assert found.metadata.General.title == "DF4"

    path = make_velox(images={"HAADF": first, "HAADF ": second})
    with pytest.raises(ValueError, match="2 images fit.*0: HAADF.*1: HAADF"):
        fmm.load_velox(path)
    sums = [fmm.load_velox(path, haadf=number)[1].data for number in (0, 1)]
    assert {int(s.sum()) for s in sums} == {int(first.sum()), int(second.sum())}


def test_one_image_beside_many_frames(make_velox):
    image = np.arange(54, dtype=np.uint16).reshape(1, *SHAPE)
    path = make_velox(images={"HAADF": image}, n_frames=4)
    with pytest.warns(UserWarning, match="taken as it is for the 4 frames"):
        maps, haadf = fmm.load_velox(path)
    assert_same_maps(maps, spectrum_image(path))
    np.testing.assert_array_equal(haadf.data, image[0])


def test_fewer_images_than_frames(make_velox):
    images = np.random.default_rng(7).integers(0, 99, (2, *SHAPE)).astype(np.uint16)
    path = make_velox(images={"HAADF": images}, n_frames=4)
    with pytest.warns(UserWarning, match="ends before the X-rays; 2 frames are read"):
        maps, haadf = fmm.load_velox(path)
    assert_same_maps(maps, spectrum_image(path, last_frame=2))
    np.testing.assert_array_equal(haadf.data, images.sum(axis=0))


def test_frames_not_selected_in_velox_are_told(make_velox):
    path = make_velox(n_frames=4, n_frames_selected=3)
    with pytest.warns(UserWarning, match="3 of 4 frames are selected in Velox"):
        maps, _ = fmm.load_velox(path)
    assert_same_maps(maps, spectrum_image(path))
    maps, _ = fmm.load_velox(path, frames=(0, 4))
    assert maps.metadata.Velox.frames == [0, 1, 2, 3]


def test_detectors_of_different_length(make_velox, random_stream):
    rng = np.random.default_rng(8)
    streams = {"SuperXG21": random_stream(rng, 4, 54), "SuperXG22": random_stream(rng, 3, 54)}
    path = make_velox(streams=streams, n_frames=4)
    with pytest.warns(UserWarning, match="3 whole frames are read.*SuperXG21 holds 4"):
        maps, _ = fmm.load_velox(path)
    assert_same_maps(maps, spectrum_image(path, last_frame=3))


def test_maps_can_be_stored_and_fused(make_velox, tmp_path):
    path = make_velox()
    maps, haadf, spectrum = fmm.load_velox(path, background_windows="auto", return_spectrum=True)
    for name, signal in (("maps", maps), ("haadf", haadf), ("spectrum", spectrum)):
        file = tmp_path / f"{name}.hspy"
        signal.save(file)
        again = hs.load(file)
        assert type(again) is type(signal)
        np.testing.assert_array_equal(again.data, signal.data)
    again = hs.load(tmp_path / "maps.hspy")
    np.testing.assert_array_equal(
        again.metadata.Background.counts.data, maps.metadata.Background.counts.data
    )


def test_the_caller_keeps_his_file_and_arguments(make_velox):
    path = make_velox()
    before = os.stat(path).st_mtime_ns, open(path, "rb").read()
    windows = np.array([[6.3, 6.5], [0.4, 0.6], [7.9, 8.1]])
    lines = ["Fe_Ka", "O_Ka", "Cu_Ka"]
    frames = [2, 0]
    fmm.load_velox(path, lines=lines, energy_windows=windows, frames=frames)
    assert lines == ["Fe_Ka", "O_Ka", "Cu_Ka"] and frames == [2, 0]
    np.testing.assert_array_equal(windows, [[6.3, 6.5], [0.4, 0.6], [7.9, 8.1]])
    assert before == (os.stat(path).st_mtime_ns, open(path, "rb").read())


def test_an_interruption_leaves_the_file_closed(make_velox, monkeypatch):
    from hyperspy_fusedmm.io import _counting

    path = make_velox()

    class Interrupted:
        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return False

        def update(self, n_events):
            raise KeyboardInterrupt

    monkeypatch.setattr(_counting, "_progressbar", lambda *_: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        fmm.load_velox(path)
    import h5py

    # Refused by HDF5 while the file is open for reading.
    with h5py.File(path, "r+"):
        pass


def test_the_progress_bar_counts_every_event(make_velox, capsys):
    path = make_velox(n_frames=2)
    fmm.load_velox(path, show_progressbar=True)
    assert "100%" in capsys.readouterr().err
    fmm.load_velox(path, show_progressbar=False)
    assert capsys.readouterr().err == ""


def test_another_name_for_the_file(make_velox, tmp_path):
    """What a file is shows in the file, not in its name; paths may be pathlib's."""
    path = make_velox()
    renamed = tmp_path / "recording of today.h5"
    shutil.copy(path, renamed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        maps, haadf = fmm.load_velox(renamed)
    np.testing.assert_array_equal(maps.data, fmm.load_velox(path)[0].data)
    assert maps.metadata.General.title == "Element maps of recording of today"
