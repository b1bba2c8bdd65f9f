"""Nothing that HyperSpy's models offer fails deep inside or answers without meaning."""

import pytest
from hyperspy.model import BaseModel
from plain import PLAIN

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.models.inherited import REFUSED_METHODS, REFUSED_PROPERTIES

# Each of these has a test of its own.
WORKING = {"as_dictionary", "as_signal", "fit", "save", "signal", "store"}


def test_every_inherited_public_name_was_examined():
    public = {name for name in dir(BaseModel) if not name.startswith("_")}
    assert public == WORKING | set(REFUSED_METHODS) | set(REFUSED_PROPERTIES)


@pytest.mark.parametrize("name", REFUSED_METHODS)
def test_methods_of_components_say_what_to_use(small, name):
    model = small.maps.create_model()
    with pytest.raises(NotImplementedError, match=rf"{name}\(\) is not available: \w+.*\.$"):
        getattr(model, name)()
    with pytest.raises(NotImplementedError):
        getattr(model, name)("argument", option=1)
    assert REFUSED_METHODS[name] in getattr(fmm.FusedMultiModal, name).__doc__


@pytest.mark.parametrize("name", REFUSED_PROPERTIES)
def test_properties_of_components_say_what_to_use(small, name):
    model = small.maps.create_model()
    with pytest.raises(NotImplementedError, match=rf"{name} is not available: .+\.$"):
        getattr(model, name)


@pytest.mark.parametrize("name", ["inav", "isig"])
def test_slicing_says_what_to_use(small, name):
    with pytest.raises(NotImplementedError, match=rf"slice the maps with maps\.{name}"):
        getattr(small.maps.create_model(), name)[:2]


def test_signal_is_the_measured_maps(small):
    model = small.maps.create_model()
    assert model.signal is small.maps and model.maps is small.maps
    assert model.axes_manager is small.maps.axes_manager


def test_as_signal_predicts_the_counts(small, as_asked, lazy):
    maps = as_asked(small.maps)
    model = maps.create_model(background={"S": 0.5})
    model.fit(max_iterations=20, tolerance=0, **PLAIN)
    expected = model.as_signal()
    assert type(expected) is type(maps)
    predicted = model.fused.data + [[[0.0]], [[0.5]], [[0.0]]]
    assert abs(expected.data - predicted).max() < 1e-6


def test_fitted_event_fires(small):
    model = small.maps.create_model()
    fired = []
    model.events.fitted.connect(lambda obj: fired.append(obj))
    model.fit(max_iterations=5, tolerance=0, **PLAIN)
    assert fired == [model] or fired[0] is model


def test_repr_tells_what_it_is(small):
    model = small.maps.create_model(small.haadf, **small.scale)
    assert "elements: Co, S, O, with HAADF, not fitted" in repr(model)
    model.fit(max_iterations=5, tolerance=0, **PLAIN)
    assert "with HAADF, fitted" in repr(model)
    assert "without HAADF" in repr(small.maps.create_model())
