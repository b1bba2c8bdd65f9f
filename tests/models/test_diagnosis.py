"""Verdicts: right images are not suspected, wrong ones are, and nothing is changed."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

import hyperspy_fusedmm as fmm

QUIET = {"verbose": False, "show_progressbar": False}


def diagnosed(specimen, image=None, lambda_haadf=1.0, maps=None, **options):
    haadf = specimen.haadf.deepcopy()
    if image is not None:
        haadf.data = image
    maps = specimen.maps if maps is None else maps
    model = maps.create_model(haadf, **options)
    model.fit(
        lambda_haadf=lambda_haadf, lambda_tv="noise", regularization="tv", guided=False,
        tolerance=1e-3, show_progressbar=False,
    )  # fmt: skip
    return model, model.diagnose(**QUIET)


def kinds(verdict):
    return [finding.kind for finding in verdict.findings]


def serious(verdict):
    return [finding.kind for finding in verdict.findings if finding.serious]


@pytest.fixture(scope="module")
def particles():
    return fmm.data.core_shell_particles(shape=(80, 80), dose=3, seed=2)


@pytest.fixture(scope="module")
def verdict(particles):
    return diagnosed(particles, sensitivities=particles.sensitivities)


def test_a_right_image_helps_and_is_not_suspected(verdict):
    _, found = verdict
    assert found.helps and found.trustworthy and not found.harms
    assert not serious(found)
    assert found.total_gain == pytest.approx(np.nansum(found.gain))
    assert found.gain[0] > 3 * found.gain_error[0]
    assert found.influence[0] > found.influence[2] > 0
    assert found.correlation > 0.5 and not found.inverted
    assert found.composition == "atomic percent"
    assert (found.composition_change > 0).all() and (found.composition_change < 5).all()


@pytest.mark.parametrize("make", [fmm.data.perovskite_lattice, fmm.data.gallium_oxide_film])
def test_other_right_images_are_not_suspected_either(make):
    specimen = make(shape=(80, 80), dose=3)
    _, found = diagnosed(specimen)
    assert not set(serious(found)) - {"no gain"}


def test_an_image_that_is_shifted(particles):
    moved = shift(particles.haadf.data, (0, 3), order=0, mode="nearest")
    _, found = diagnosed(particles, moved)
    assert "shifted" in serious(found)
    assert found.shift[1] == pytest.approx(-3, abs=4 * found.shift_error[1])
    assert found.shift[0] == pytest.approx(0, abs=4 * found.shift_error[0])
    np.testing.assert_allclose(found.shift_calibrated, 0.5 * found.shift)
    assert "-3.0" in str(found) or "-2.9" in str(found)
    assert not found.trustworthy


def test_an_image_that_is_inverted(particles):
    image = particles.haadf.data
    with pytest.warns(UserWarning, match="brighter"):
        _, found = diagnosed(particles, image.max() + image.min() - image)
    assert found.inverted and "inverted" in serious(found) and "shifted" not in kinds(found)


def test_an_inverted_image_of_a_lattice_is_not_taken_for_a_shifted_one():
    """Moved by half a cell its columns lie where it is dark."""
    lattice = fmm.data.perovskite_lattice(shape=(80, 80), dose=3)
    image = lattice.haadf.data
    _, found = diagnosed(lattice, image.max() + image.min() - image)
    assert found.inverted and "inverted" in serious(found)


def test_an_image_that_is_clipped(particles):
    image = particles.haadf.data
    _, found = diagnosed(particles, np.minimum(image, 0.5 * image.max()))
    assert "saturated" in serious(found)
    assert found.saturated[0] == 0 and found.saturated[1] > 0.1
    assert "bent" not in kinds(found)


@pytest.mark.parametrize("power, sign", [(2.0, -1), (0.5, 1)])
def test_an_image_that_is_not_linear(particles, power, sign):
    signal = particles.haadf.data - particles.haadf_offset
    image = np.sign(signal) * np.abs(signal) ** power + 0.25
    _, found = diagnosed(particles, image)
    assert "bent" in serious(found) and np.sign(found.bend) == sign


def test_an_element_that_is_not_mapped(particles):
    rows, columns = np.indices((80, 80))
    gold = sum(3.0 * (np.hypot(rows - r, columns - c) < 4) for r, c in ((60, 10), (30, 40), (9, 60)))
    _, found = diagnosed(particles, particles.haadf.data + gold)
    assert "unexplained" in serious(found)
    assert found.unexplained > 4 * found.unexplained_error


@pytest.mark.parametrize("missing", ["Co", "S", "O"])
def test_an_element_that_goes_with_others_is_not_missed(particles, missing):
    """Co is S and O together: any two of the three explain the image, and gain from it."""
    kept = [element for element in particles.elements if element != missing]
    maps = fmm.element_maps({element: particles.maps.get_map(element) for element in kept})
    _, found = diagnosed(particles, maps=maps)
    assert found.helps and "unexplained" not in kinds(found)


def test_sensitivities_that_are_wrong(particles):
    wrong = {**particles.sensitivities, "O": particles.sensitivities["O"] / 30}
    _, found = diagnosed(particles, sensitivities=wrong)
    assert "weights" in serious(found)


def test_an_offset_that_is_wrong(particles):
    image = particles.haadf.data
    signal = image.mean() - particles.haadf_offset
    _, found = diagnosed(
        particles, image + 1.0 * signal, weights=particles.weights, haadf_offset=particles.haadf_offset
    )
    assert "level" in serious(found)
    assert found.level == pytest.approx(signal, rel=0.2)
    _, found = diagnosed(particles, image + 1.0 * signal)
    assert not serious(found)


def test_an_image_that_was_left_out_is_judged_as_if_it_were_not(particles):
    model, found = diagnosed(particles, lambda_haadf=0.0)
    assert "left out" in kinds(found)
    assert found.gain[0] > 3 * found.gain_error[0]
    assert found.composition_change.max() < 0.2
    assert model.lambda_haadf == 0


def test_too_few_counts_are_told(particles):
    maps = particles.maps.deepcopy()
    maps.data[2] = 0
    maps.data[2, 40, 30:40] = 1
    model, found = diagnosed(replace(particles, maps=maps))
    assert np.isnan(found.gain[2]) and "too few counts" in kinds(found)
    assert "too few counts" in str(found)


def test_filtered_maps_do_not_tell_a_gain(particles):
    maps = particles.maps.deepcopy()
    maps.change_dtype(float)
    maps.data = gaussian_filter(maps.data, (0, 1, 1))
    with pytest.warns(UserWarning):
        _, found = diagnosed(particles, maps=maps)
    assert found.filtered.all() and np.isnan(found.gain).all()
    assert kinds(found).count("filtered") == 1 and "no gain" not in kinds(found)
    assert "cannot be told" in str(found) and "cannot be told" in repr(found)
    assert not found.helps and not found.harms


def test_nothing_is_changed(verdict):
    model, _ = verdict
    before = model.fused.data.copy(), model.haadf.data.copy(), model.maps.data.copy()
    first, second = model.diagnose(**QUIET), model.diagnose(**QUIET, num_workers=1)
    np.testing.assert_array_equal(first.gain, second.gain)
    np.testing.assert_array_equal(first.composition_change, second.composition_change)
    assert str(first) == str(second)
    assert (model.diagnose(**QUIET, seed=1).gain != first.gain).any()
    for old, new in zip(before, (model.fused.data, model.haadf.data, model.maps.data)):
        np.testing.assert_array_equal(old, new)


def test_larger_changes_of_the_weights_move_the_composition_more(verdict):
    model, found = verdict
    more = model.diagnose(**QUIET, uncertainty_of_weights=0.2)
    assert (more.composition_change > 1.5 * found.composition_change).all()
    assert "20 %" in str(more) and "6 %" in str(found)


def test_it_is_printed_and_returned(verdict, capsys):
    model, _ = verdict
    found = model.diagnose(show_progressbar=False)
    printed = capsys.readouterr().out
    assert printed.strip() == str(found).strip()
    assert "The HAADF image helps" in printed and "Co" in printed
    assert repr(found).startswith("<Verdict: the HAADF image helps")
    model.diagnose(**QUIET)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "options, name",
    [
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"uncertainty_of_weights": 0}, "uncertainty_of_weights"),
        ({"uncertainty_of_weights": 6}, "uncertainty_of_weights"),
        ({"num_workers": 0}, "num_workers"),
    ],
)
def test_bad_options_are_refused(fitted, options, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        fitted.diagnose(**options)


def test_nothing_to_diagnose(small):
    model = small.maps.create_model()
    with pytest.raises(RuntimeError, match="fit"):
        model.diagnose()
    model.fit(lambda_tv="noise", show_progressbar=False)
    for method in (model.diagnose, model.plot_diagnosis, model.haadf_influence):
        with pytest.raises(RuntimeError, match="no HAADF image"):
            method()


@pytest.mark.parametrize("lazy", [False, True])
def test_influence_is_like_the_fused_maps(small, lazy):
    maps = small.maps.as_lazy() if lazy else small.maps
    model = maps.create_model(small.haadf, **small.scale)
    model.fit(lambda_tv="noise", tolerance=1e-2, show_progressbar=False)
    share = model.haadf_influence()
    assert share._lazy is lazy and share.elements == maps.elements
    values = np.asarray(share.data)
    assert values.shape == maps.data.shape and (values >= 0).all() and (values <= 1).all()
    assert share.metadata.Signal.quantity == "Share of the information"
    found = model.diagnose(**QUIET)
    assert (found.influence > 0).all()


def test_power_model_gaussian_maps_preset_and_pixels_left_out(particles):
    noise = np.full((80, 80), 0.2)
    noise[:9] = np.inf
    _, found = diagnosed(particles, haadf_noise=noise, weights=particles.weights)
    assert "unexplained" not in kinds(found)

    power = fmm.data.core_shell_particles(shape=(80, 80), dose=3, seed=2, forward="power")
    _, found = diagnosed(power, forward="power", sensitivities=power.sensitivities)
    assert not {"shifted", "inverted", "saturated"} & set(kinds(found))

    fractions = particles.maps.deepcopy()
    fractions.change_dtype(float)
    fractions.data = fractions.data + np.random.default_rng(0).normal(0, 0.3, fractions.data.shape)
    _, found = diagnosed(particles, maps=fractions, fidelity="gaussian")
    assert np.isfinite(found.gain).all() and np.isnan(found.gain_per_1000_counts).all()
    assert "±" in str(found)

    model = particles.maps.create_model(particles.haadf, preset="schwartz2022")
    model.fit(show_progressbar=False)
    found = model.diagnose(**QUIET)
    assert not set(serious(found)) - {"no gain"}
    assert np.isfinite(found.composition_change).all()


def test_the_figure_is_drawn(fitted):
    figure = fitted.plot_diagnosis()
    assert {"image − fit", "image − fit against fit"} <= {ax.get_title() for ax in figure.axes}
    plt.close(figure)
