"""What cannot be read is refused, and the message says what was found and what is needed."""

import os
import shutil

import h5py
import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm

SHAPE = (6, 9)


def streams_of(file):
    return list(file["Data/SpectrumStream"].values())


def replace(group, name, data):
    del group[name]
    group[name] = data


@pytest.fixture
def edited(make_velox):
    """A file after an edit of its HDF5 content."""

    def edit(change, **options):
        path = make_velox(**options)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return edit


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere.emd"):
        fmm.load_velox(tmp_path / "nowhere.emd")


@pytest.mark.parametrize("content", [b"", b"something else", b"\x89HDF\r\n\x1a\n"])
def test_not_hdf5(tmp_path, content):
    path = tmp_path / "text.emd"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="text.emd.*A Velox EMD file with an EDS event stream"):
        fmm.load_velox(path)


def test_berkeley_emd(tmp_path):
    path = str(tmp_path / "berkeley.emd")
    hs.signals.Signal2D(np.zeros((4, 4))).save(path)
    with pytest.raises(ValueError, match="Berkeley .NCEM. kind.*Open it with hyperspy.api.load"):
        fmm.load_velox(path)


def test_another_hdf5_file(tmp_path):
    path = str(tmp_path / "other.hspy")
    hs.signals.Signal2D(np.zeros((4, 4))).save(path)
    with pytest.raises(ValueError, match="not a Velox EMD file .it holds .*Experiments"):
        fmm.load_velox(path)


@pytest.mark.parametrize("version", [b"not json", b"{}", b'{"format": "Other", "version": "1"}'])
def test_another_version_text(edited, version):
    def change(file):
        replace(file, "Version", [version])

    with pytest.raises(ValueError, match="not a Velox EMD file"):
        fmm.load_velox(edited(change))


@pytest.mark.parametrize("emptied", [False, True])
def test_no_event_stream(edited, emptied):
    def change(file):
        del file["Data/SpectrumStream"]
        if emptied:
            file.create_group("Data/SpectrumStream")

    with pytest.raises(ValueError, match="holds no EDS event stream .it holds .*'Image'.*pruned"):
        fmm.load_velox(edited(change))


def test_no_haadf(make_velox):
    images = {"BF": np.ones((3, *SHAPE), np.uint16)}
    path = make_velox(images=images)
    with pytest.raises(ValueError, match="no HAADF image. .*0: BF .6 rows x 9 columns, 3 frames"):
        fmm.load_velox(path)
    assert fmm.load_velox(path, haadf="BF")[1].data.max() == 3


@pytest.mark.parametrize("haadf", ["ADF", 5, -1])
def test_an_image_that_is_not_there(make_velox, haadf):
    with pytest.raises(ValueError, match="haadf: the file holds no image .*0: HAADF"):
        fmm.load_velox(make_velox(), haadf=haadf)


def test_a_haadf_image_on_another_grid(make_velox):
    images = {"HAADF": np.ones((3, 12, 18), np.uint16), "BF": np.ones((3, *SHAPE), np.uint16)}
    with pytest.raises(ValueError, match="HAADF .12 rows x 18.*not lie on the grid.*6 rows x 9"):
        fmm.load_velox(make_velox(images=images, shape=SHAPE))


def test_a_complex_image(edited):
    def change(file):
        (group,) = file["Data/Image"].values()
        pairs = np.zeros((*SHAPE, 3), [("realFloat", "<f4"), ("imagFloat", "<f4")])
        replace(group, "Data", pairs)

    with pytest.raises(ValueError, match="haadf: HAADF .* is complex, and a real image is needed"):
        fmm.load_velox(edited(change))


def test_no_image_at_all(edited):
    def change(file):
        del file["Data/Image"]

    with pytest.raises(ValueError, match="grid of the event stream.*cannot be told"):
        fmm.load_velox(edited(change))


@pytest.mark.parametrize("detectors", ["Bruker", 2, -1, ["SuperXG21", "Bruker"]])
def test_a_detector_that_is_not_there(make_velox, detectors):
    with pytest.raises(ValueError, match="detectors: no .*0: SuperXG21.*1: SuperXG22"):
        fmm.load_velox(make_velox(), detectors=detectors)


@pytest.mark.parametrize(
    "detectors, message", [([], "none given"), ([0, "SuperXG21"], "given twice")]
)
def test_detectors_that_make_no_sense(make_velox, detectors, message):
    with pytest.raises(ValueError, match=f"detectors: .*{message}"):
        fmm.load_velox(make_velox(), detectors=detectors)


@pytest.mark.parametrize(
    "frames", [(0, 4), (2, 2), (-1, 2), [3], [-1], [0, 0], [], 3, [0.5], slice(3, 3)]
)
def test_frames_that_are_not_there(make_velox, frames):
    with pytest.raises(ValueError, match="frames: .* from 0 to 2 is needed"):
        fmm.load_velox(make_velox(n_frames=3), frames=frames)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lines": ["Au_Ka"]}, r"lines: Au_Ka at 68.8\S* keV lies beyond .*0 to 40.95 keV"),
        ({"lines": ["Fe_Xa"]}, "'Fe_Xa' is not an X-ray line; of 'Fe' there are .*Fe_Ka"),
        ({"lines": ["iron"]}, "'iron' is not an X-ray line"),
        ({"lines": ["Fe_Ka", "Fe_Ka"]}, "'Fe_Ka' is given twice"),
        ({"elements": ["Xy"]}, "'Xy' is not a chemical symbol"),
        ({"energy_windows": -1}, "energy_windows: a width must be a positive"),
        ({"energy_windows": [[6, 7]]}, r"3 rows \(for Fe_Ka, O_Ka, Cu_Ka\) of 2 energies"),
        ({"energy_windows": [[7, 6], [0, 1], [7, 8]]}, "for Fe_Ka must rise"),
        ({"energy_windows": {"Au_Ma": (2, 3)}}, "'Au_Ma'.* are not among the lines"),
        ({"energy_windows": {"Fe_Ka": (50, 60)}}, "for Fe_Ka holds no channel.*0 to 40.95 keV"),
        ({"energy_windows": {"Fe_Ka": (6.4, 6.4001)}}, "for Fe_Ka holds no channel"),
        ({"background_windows": "linear"}, "background_windows: found 'linear'"),
        ({"background_windows": {"Fe_Ka": (6, 6.1)}}, "of 4 energies"),
        ({"background_windows": {"Fe_Ka": (-3, -2, 7, 8)}}, "background_windows.*no channel"),
        ({"background_windows": "auto", "sum_frames": False}, "single frames is not estimated"),
        ({"chunks": 0}, "chunks: 'auto' or a positive number"),
        ({"chunks": "all"}, "chunks: 'auto' or a positive number"),
    ],
)
def test_lines_and_windows_that_are_not_there(make_velox, options, message):
    with pytest.raises(ValueError, match=message):
        fmm.load_velox(make_velox(), **options)


def test_no_element_is_named_anywhere(make_velox):
    with pytest.raises(ValueError, match="neither was given, and the file names none"):
        fmm.load_velox(make_velox(elements=[]))


def test_an_element_without_a_line_in_range(make_velox):
    path = make_velox(n_channels=100, elements=["O"])  # up to 1 keV
    assert fmm.load_velox(path)[0].elements == ["O"]
    with pytest.raises(
        ValueError, match=r"'S' has no .*0 to 0.99 keV; its lines are .*S_Ka at 2.3"
    ):
        fmm.load_velox(path, elements=["S"])


def test_a_beam_too_slow_for_a_line(make_velox, monkeypatch):
    from hyperspy_fusedmm.data import velox_layout

    monkeypatch.setattr(velox_layout, "BEAM_ENERGY", 8.0)
    with pytest.raises(ValueError, match="Cu_Ka at 8.0\\S* keV cannot be excited by .* 8 keV"):
        fmm.load_velox(make_velox(), lines=["Cu_Ka"])


def test_a_stream_without_a_whole_frame(edited):
    def change(file):
        for group in streams_of(file):
            stream = group["Data"][:]
            cut = int(np.flatnonzero(stream[:, 0] == 65535)[20]) + 1
            replace(group, "Data", stream[:cut])

    path = edited(change)
    with pytest.raises(
        ValueError, match="no whole frame, SuperXG21 holds 0 whole frames and 21 of"
    ):
        fmm.load_velox(path)
    with pytest.warns(UserWarning, match="frame 0 is not whole"):
        maps, _ = fmm.load_velox(path, frames=(0, 1))
    assert maps.data.reshape(3, -1)[:, 21:].sum() == 0


def test_an_empty_stream(edited):
    def change(file):
        for group in streams_of(file):
            replace(group, "Data", np.empty((0, 1), np.uint16))

    with pytest.raises(ValueError, match="no whole frame"):
        fmm.load_velox(edited(change))


def test_a_truncated_last_frame(edited):
    def change(file):
        group = streams_of(file)[0]
        stream = group["Data"][:]
        replace(group, "Data", stream[: int(group["FrameLocationTable"][2, 0]) + 40])

    path = edited(change)
    with pytest.warns(UserWarning, match="2 whole frames are read: .* pixels of the next"):
        maps, haadf, spectrum = fmm.load_velox(path, return_spectrum=True)
    whole, whole_haadf, whole_spectrum = fmm.load_velox(path, frames=(0, 2), return_spectrum=True)
    np.testing.assert_array_equal(maps.data, whole.data)
    np.testing.assert_array_equal(haadf.data, whole_haadf.data)
    np.testing.assert_array_equal(spectrum.data, whole_spectrum.data)


def test_a_corrupt_stream(edited):
    def lose_a_separator(file):
        stream = streams_of(file)[1]["Data"]
        stream[int(np.flatnonzero(stream[:, 0] == 65535)[30]), 0] = 7

    with pytest.raises(ValueError, match="corrupt: frame 0 must end at event"):
        fmm.load_velox(edited(lose_a_separator))

    def add_a_channel(file):
        streams_of(file)[1]["Data"][3, 0] = 5000

    with pytest.raises(ValueError, match="corrupt: event 3 is in channel 5000, but .* 4096"):
        fmm.load_velox(edited(add_a_channel))


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((50, 1), np.uint32),
        np.zeros((50, 1), np.float32),
        np.zeros((50, 2), np.uint16),
        np.zeros(50, np.uint16),
    ],
)
def test_a_stream_of_another_type(edited, data):
    def change(file):
        for group in streams_of(file):
            replace(group, "Data", data)

    with pytest.raises(ValueError, match="the event stream /Data/SpectrumStream.* uint16"):
        fmm.load_velox(edited(change))


def test_detectors_of_different_calibration(make_velox, edited):
    import json

    def change(file):
        group = streams_of(file)[0]
        metadata = json.loads(group["Metadata"][:, 0].tobytes().split(b"\0")[0])
        for detector in metadata["Detectors"].values():
            if "Dispersion" in detector:
                detector["Dispersion"] = "5"
        text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
        replace(group, "Metadata", np.repeat(text[:, None], 3, axis=1))

    with pytest.raises(ValueError, match="cannot be added, the energy calibrations differ"):
        fmm.load_velox(edited(change))


def test_no_calibration(edited):
    def change(file):
        for group in streams_of(file):
            text = group["Metadata"][:, 0].tobytes().replace(b"Dispersion", b"Disposition")
            replace(group, "Metadata", np.frombuffer(text, np.uint8)[:, None])

    with pytest.raises(ValueError, match="no energy calibration.*Dispersion and OffsetEnergy"):
        fmm.load_velox(edited(change))


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
def test_a_file_that_was_not_copied_to_its_end(make_velox, tmp_path, part):
    path = make_velox()
    short = tmp_path / "short.emd"
    shutil.copy(path, short)
    os.truncate(short, int(part * os.path.getsize(path)))
    with pytest.raises(ValueError, match="short.emd.* damaged or was not copied to its end"):
        fmm.load_velox(short)


def test_a_damaged_compressed_chunk(make_velox):
    path = make_velox(compression="gzip", events_per_chunk=500)
    with h5py.File(path) as file:
        chunk = streams_of(file)[0]["Data"].id.get_chunk_info(2)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset + 4)
        raw.write(bytes(chunk.size - 4))
    with pytest.raises(ValueError, match="made.emd' is damaged or was not copied to its end"):
        fmm.load_velox(path)


def test_a_stream_with_holes(edited):
    """HDF5 reads zeros there, without a word."""

    def change(file):
        for group in streams_of(file):
            group["Data"].resize(10**9, axis=0)

    with pytest.raises(ValueError, match="incomplete: 1 of its 122071 chunks are in the file"):
        fmm.load_velox(edited(change))


@pytest.mark.parametrize("n_channels", [0, 70000])
def test_a_number_of_channels_that_cannot_be(edited, n_channels):
    def change(file):
        for group in streams_of(file):
            settings = group["AcquisitionSettings"][0].replace(b"4096", b"%d" % n_channels)
            replace(group, "AcquisitionSettings", [settings])

    with pytest.raises(ValueError, match=f"{n_channels} channels; 1 to 65535 can be encoded"):
        fmm.load_velox(edited(change))


@pytest.mark.parametrize("missing", ["Metadata", "AcquisitionSettings", "Data"])
def test_a_stream_that_lacks_a_part(edited, missing):
    def change(file):
        for group in streams_of(file):
            del group[missing]

    with pytest.raises(ValueError, match=f"made.emd' is damaged .*KeyError: .*{missing}"):
        fmm.load_velox(edited(change))


@pytest.mark.parametrize("seed", range(40))
def test_random_damage_is_refused_or_read(make_velox, seed):
    """Bytes changed anywhere: a result or an ordinary error, whatever was hit."""
    rng = np.random.default_rng(seed)
    path = make_velox(n_frames=2, n_detectors=1)
    size = os.path.getsize(path)
    with open(path, "r+b") as raw:
        for _ in range(rng.integers(1, 20)):
            raw.seek(rng.integers(0, size))
            raw.write(rng.bytes(rng.integers(1, 64)))
    try:
        maps, haadf = fmm.load_velox(path)
    except ValueError:
        return
    assert maps.data.shape == (3, *SHAPE) and maps.data.min() >= 0
    assert haadf.data.shape == SHAPE
