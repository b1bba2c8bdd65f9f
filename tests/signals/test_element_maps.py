"""Element names go where their maps go, and calibration stays."""

import doctest
import importlib

import hyperspy.api as hs
import numpy as np
import pytest

import hyperspy_fusedmm as fmm


@pytest.fixture
def maps(as_asked):
    data = np.random.default_rng(0).poisson(3, (3, 6, 8))
    maps = fmm.element_maps({"Fe_Ka": data[0], "O": data[1], "Cu_Ka": data[2]})
    for axis in maps.axes_manager.signal_axes:
        axis.scale, axis.units = 0.1, "nm"
    return as_asked(maps)


def values(signal):
    return np.asarray(signal.data)


@pytest.mark.parametrize(
    "index, elements, lines",
    [
        (slice(None), ["Fe", "O", "Cu"], ["Fe_Ka", "Cu_Ka"]),
        (slice(1, None), ["O", "Cu"], ["Cu_Ka"]),
        (slice(None, None, -1), ["Cu", "O", "Fe"], ["Fe_Ka", "Cu_Ka"]),
        (slice(0, 1), ["Fe"], ["Fe_Ka"]),
        (1, ["O"], []),
        (-1, ["Cu"], ["Cu_Ka"]),
        (1.0, ["O"], []),
        (slice(1.0, 3.0), ["O", "Cu"], ["Cu_Ka"]),
        (..., ["Fe", "O", "Cu"], ["Fe_Ka", "Cu_Ka"]),
    ],
)
def test_names_follow_inav(maps, index, elements, lines):
    before = values(maps)
    sliced = maps.inav[index]
    assert type(sliced) is type(maps)
    assert sliced.elements == elements
    assert sorted(sliced.metadata.Sample.xray_lines) == sorted(lines)
    kept = [["Fe", "O", "Cu"].index(element) for element in elements]
    np.testing.assert_array_equal(values(sliced).reshape(-1, 6, 8), before[kept])
    assert maps.elements == ["Fe", "O", "Cu"]
    assert maps.metadata.Sample.xray_lines == ["Fe_Ka", "Cu_Ka"]


def test_slices_of_slices(maps):
    assert maps.inav[1:].inav[1:].elements == ["Cu"]
    assert maps.inav[1:].inav[0].elements == ["O"]
    assert maps.inav[0].isig[1:3].elements == ["Fe"]


@pytest.mark.parametrize(
    "operation",
    [
        lambda m: m.deepcopy(),
        lambda m: m * 2,
        lambda m: m + m,
        lambda m: -m,
        lambda m: m / m.inav[0],
        lambda m: m.isig[2:5, 1:4],
        lambda m: m.isig[0.2:0.5, :],
        lambda m: m.rebin(scale=(1, 2, 2)),
        lambda m: m.rebin(new_shape=(3, 4, 3)),
        lambda m: m.map(np.sqrt, inplace=False),
    ],
)
def test_names_survive(maps, operation):
    result = operation(maps)
    assert result.elements == ["Fe", "O", "Cu"]
    assert result.metadata.Sample.xray_lines == ["Fe_Ka", "Cu_Ka"]
    assert type(result) is type(maps)


def test_rebin_refuses_to_add_elements(maps):
    for options in ({"scale": (3, 1, 1)}, {"new_shape": (1, 8, 6)}):
        with pytest.raises(ValueError, match="factor along the Element axis"):
            maps.rebin(**options)


def test_crop(maps):
    maps.crop("x", 2, 6)
    assert maps.axes_manager.signal_shape == (4, 6)
    assert maps.elements == ["Fe", "O", "Cu"]
    maps.crop("Element", 1)
    assert maps.elements == ["O", "Cu"]
    assert maps.metadata.Sample.xray_lines == ["Cu_Ka"]


def test_split(maps):
    assert [part.elements for part in maps.split("Element")] == [["Fe"], ["O"], ["Cu"]]
    assert [part.elements for part in maps.split("Element", step_sizes=[1, 2])] == [
        ["Fe"],
        ["O", "Cu"],
    ]
    assert [part.elements for part in maps.split("x", 2)] == [["Fe", "O", "Cu"]] * 2
    assert maps.elements == ["Fe", "O", "Cu"]


def test_iteration_names_each_map(maps):
    assert [one.elements for one in maps] == [["Fe"], ["O"], ["Cu"]]


def test_get_map(maps):
    copper = maps.get_map("Cu")
    np.testing.assert_array_equal(values(copper), values(maps)[2])
    assert copper.metadata.General.title == "Cu"
    assert copper.axes_manager["x"].scale == 0.1
    np.testing.assert_array_equal(values(maps.get_map("Cu_Ka")), values(copper))
    np.testing.assert_array_equal(values(copper.get_map("Cu")), values(copper))
    with pytest.raises(ValueError, match="'Ni' is not among these maps; there are Fe, O, Cu"):
        maps.get_map("Ni")


def test_sum_over_elements_has_no_element_of_its_own(maps):
    total = maps.sum("Element")
    with pytest.raises(ValueError, match="3 names .*for 1 maps"):
        total.elements


def test_maps_nobody_named():
    stack = hs.signals.Signal2D(np.ones((2, 4, 4)))
    stack.set_signal_type("ElementMaps")
    assert stack.elements == []
    assert stack.inav[0].elements == []
    with pytest.raises(ValueError, match="there are none"):
        stack.get_map("Fe")


def test_maps_that_were_not_fused_have_no_convergence(maps):
    with pytest.raises(ValueError, match="FusedMultiModal.history.*fuse"):
        maps.plot_convergence()


class TestFrames:
    """Frames of the same maps along a second navigation axis."""

    @pytest.fixture
    def frames(self, maps):
        data = np.random.default_rng(1).poisson(3, (4, 3, 6, 8))
        axes = [{"name": "Frame", "size": 4, "navigate": True}]
        axes += [{"name": "Element", "size": 3, "navigate": True}, {"size": 6}, {"size": 8}]
        frames = fmm.ElementMaps(data, axes=axes, metadata=maps.metadata.as_dictionary())
        return frames.as_lazy() if maps._lazy else frames

    def test_names_are_counted_along_the_elements(self, frames):
        assert frames.elements == ["Fe", "O", "Cu"]
        assert frames.isig[:3, :3].elements == ["Fe", "O", "Cu"]
        assert frames.sum("Frame").elements == ["Fe", "O", "Cu"]
        with pytest.raises(ValueError, match="3 names .*for 1 maps"):
            frames.sum("Element").elements

    def test_names_follow_slices(self, frames):
        before = values(frames)
        for index, elements in (
            ((slice(None), 2), ["Fe", "O", "Cu"]),
            ((slice(1, None), slice(2)), ["O", "Cu"]),
            ((slice(1, None), 0), ["O", "Cu"]),
            ((1, slice(None)), ["O"]),
            ((-1, 0), ["Cu"]),
        ):
            sliced = frames.inav[index]
            assert sliced.elements == elements
            np.testing.assert_array_equal(values(sliced), before[index[::-1]])
        assert frames.inav[1, :].inav[2:].elements == ["O"]
        assert frames.inav[1, :].metadata.Sample.xray_lines == []

    def test_map_of_one_element(self, frames):
        oxygen = frames.get_map("O")
        np.testing.assert_array_equal(values(oxygen), values(frames)[:, 1])
        np.testing.assert_array_equal(values(oxygen.get_map("O")), values(oxygen))

    def test_frames_can_be_added_and_elements_cannot(self, frames):
        added = frames.rebin(scale=(1, 2, 1, 1))
        assert added.elements == ["Fe", "O", "Cu"]
        np.testing.assert_array_equal(
            values(added), values(frames).reshape(2, 2, 3, 6, 8).sum(axis=1)
        )
        with pytest.raises(ValueError, match="factor along the Element axis"):
            frames.rebin(scale=(3, 1, 1, 1))

    def test_crop_and_split(self, frames):
        assert [part.elements for part in frames.split("Frame", 2)] == [["Fe", "O", "Cu"]] * 2
        assert [part.elements for part in frames.split("Element")] == [["Fe"], ["O"], ["Cu"]]
        frames.crop("Frame", 0, 2)
        assert frames.elements == ["Fe", "O", "Cu"]
        frames.crop("Element", 0, 2)
        assert frames.elements == ["Fe", "O"]

    def test_iteration_names_each_map(self, frames):
        before = values(frames)
        for one in frames:
            (element,) = one.elements
            of_element = before[:, ["Fe", "O", "Cu"].index(element)]
            assert (values(one).reshape(6, 8) == of_element).all(axis=(1, 2)).any()

    @pytest.mark.parametrize("index", [..., (0, slice(None)), (0, slice(1))])
    def test_fusing_them_asks_for_one(self, frames, index):
        with pytest.raises(ValueError, match="maps: found .*Choose one frame with inav, or sum"):
            frames.inav[index].create_model()


@pytest.mark.parametrize("module", ["names", "fusing", "_lazy_element_maps"])
def test_docstring_examples(module):
    module = importlib.import_module(f"hyperspy_fusedmm.signals.{module}")
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
