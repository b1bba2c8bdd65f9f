import numpy as np
import pytest

from hyperspy_fusedmm.data.film import film_landscape, gallium_oxide_film


def test_composition_is_the_same_everywhere():
    specimen = gallium_oxide_film(shape=(40, 50), dose=20, forward="power")
    gallium, oxygen = (
        specimen.truth.data[i] / specimen.sensitivities[element]
        for i, element in enumerate(specimen.elements)
    )
    np.testing.assert_allclose(gallium / (gallium + oxygen), 0.4, rtol=1e-5)


def test_thickness_varies_but_never_vanishes():
    thickness = gallium_oxide_film(shape=(40, 50)).truth.data[0]
    assert thickness.min() > 0
    assert thickness.max() > 2 * thickness.min()
    flat = gallium_oxide_film(shape=(40, 50), roughness=0).truth.data[0]
    np.testing.assert_allclose(flat, flat[0, 0])


def test_landscape_is_standardised():
    landscape = film_landscape((60, 80), np.random.default_rng(0))
    assert landscape.mean() == pytest.approx(0, abs=1e-12)
    assert landscape.std() == pytest.approx(1)


@pytest.mark.parametrize(
    "options, message",
    [({"thickness": 0}, "thickness must be"), ({"roughness": -0.1}, "roughness must be")],
)
def test_bad_films_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        gallium_oxide_film(**options)
