"""Real data run through the public face to their tolerance."""

import warnings

import exspy  # noqa: F401  registers the spectrum classes
import hyperspy.api as hs
import numpy as np
import pytest
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter

import hyperspy_fusedmm as fmm


def fuse(maps, haadf, **options):
    """Fuse to the default tolerance; returns the share of the image's variance that is explained."""
    with warnings.catch_warnings():
        # Real maps need not tell the weights of all elements apart.
        warnings.filterwarnings("ignore", message="weights: ", category=UserWarning)
        fused, model = maps.fuse(haadf, return_model=True, **options)
    values = np.asarray(fused.data)
    assert model.converged and 0 <= model.relative_gap <= options.get("tolerance", 1e-4)
    assert np.isfinite(values).all() and values.min() >= 0
    assert fused.axes_manager.as_dictionary() == maps.axes_manager.as_dictionary()
    return fused, model, 1 - model.haadf_residual.data.var() / model.haadf.data.var()


def test_dysco3(real_data):
    """Quantified fractions at atomic resolution, no pixel size."""
    arrays = np.load(real_data("dysco3/dysco3.npz"))
    maps = fmm.element_maps({name: arrays[name] for name in ("Sc", "Dy", "O")})
    fused, model, explained = fuse(maps, hs.signals.Signal2D(arrays["HAADF"]))
    assert model.fidelity == ["gaussian"] * 3
    # The image does not follow the sum of the fractions: it helps little or not, and may be left out.
    assert model.lambda_haadf < 0.2 and explained > 0.5
    # Columns of dysprosium dominate the image and the map alike.
    blurred = gaussian_filter(arrays["HAADF"], 1.0)
    assert np.corrcoef(blurred.ravel(), fused.get_map("Dy").data.ravel())[0, 1] > 0.75


def test_silica_spheres(real_data):
    """A spectrum image and a HAADF image with a large offset, lines extracted by eXSpy."""
    spectrum = hs.load(real_data("sio2/sio2_eds.hspy"))
    maps = fmm.element_maps(spectrum.get_lines_intensity(["C_Ka", "O_Ka", "Si_Ka"]))
    fused, model, explained = fuse(maps, hs.load(real_data("sio2/sio2_haadf.hspy")))
    assert model.fidelity == ["poisson"] * 3
    assert explained > 0.95
    # Nothing in the image is darker than 4.37e5: that much is there without specimen.
    assert 4.0e5 < model.haadf_offset < 5.5e5
    assert fused.axes_manager["x"].units == "µm"
    np.testing.assert_allclose(fused.data.mean(axis=(1, 2)), maps.data.mean(axis=(1, 2)), rtol=0.12)


def test_dust_particle(real_data):
    """Many elements at very low counts, from a Bruker file."""
    haadf, spectrum = hs.load(real_data("dust_particle/tilt_0.bcf"))
    # Four pixels in one, as all of them take minutes.
    haadf, spectrum = haadf.rebin(scale=(2, 2)), spectrum.rebin(scale=(2, 2, 1))
    lines = ["Ca_Ka", "Cu_Ka", "Fe_Ka", "Ga_Ka", "Mg_Ka", "O_Ka", "Pt_La", "S_Ka", "Si_Ka"]
    maps = fmm.element_maps(spectrum.get_lines_intensity(lines))
    fused, model, explained = fuse(
        maps, haadf, tolerance=1e-3, regularization="tv", guided=True, lambda_haadf=0.1
    )
    assert fused.elements == ["Ca", "Cu", "Fe", "Ga", "Mg", "O", "Pt", "S", "Si"]
    assert explained > 0.8
    # Pt, Ga and Cu are one deposit: of these three the maps hardly tell which is how bright.
    deposit = np.isin(fused.elements, ["Pt", "Ga", "Cu"])
    assert (model.weights[~deposit] > 0).all() and model.weights[deposit].any()


def test_quantum_dots(real_data):
    """One frame, a few hundred counts in all; grey values above zero are single counts."""
    arrays = loadmat(real_data("quantum_dots/field_6.mat"))
    names = {"Se": "Sei_img", "S": "Si_img", "Zn": "Zni_img"}
    maps = fmm.element_maps({k: (arrays[v][..., 0] > 0).astype("u1") for k, v in names.items()})
    fused, model, explained = fuse(
        maps, arrays["haadf_stem"][..., 0], tolerance=5e-4, max_iterations=5000,
        regularization="tv", guided=True, lambda_haadf=0.5,
    )  # fmt: skip
    assert model.fidelity == ["poisson"] * 3
    assert explained > 0.9
    assert fused.data.sum() == pytest.approx(maps.data.sum(), rel=0.5)


def test_palladium_on_titania(real_data):
    """The lowest counts, and an image clipped at both ends."""
    images = hs.load(real_data("bruker/pd_titania_low_counts.bcf"))
    haadf = next(s for s in images if s.axes_manager.signal_dimension == 2)
    spectrum = next(s for s in images if s.axes_manager.signal_dimension == 1)
    maps = fmm.element_maps(spectrum.get_lines_intensity(["Ti_Ka", "O_Ka", "Si_Ka", "Pd_La"]))
    _, _, explained = fuse(maps, haadf, regularization="tv", guided=True)
    assert explained > 0.9


def test_velox_image_without_contrast_is_refused(real_data):
    images = hs.load(real_data("velox/si_empty_selection.emd"))
    haadf = next(s for s in images if s.metadata.General.title == "HAADF")
    rows, columns = haadf.data.shape
    maps = fmm.element_maps({"Si": np.ones((rows, columns))})
    with pytest.raises(ValueError, match="haadf: found 65535 at every pixel"):
        maps.fuse(haadf)


def test_velox_maps_without_specimen_stay_zero(real_data):
    """Maps that are zero everywhere, beside spectra on another grid."""
    images = hs.load(real_data("velox/eels_eds_dark.emd"))
    named = {s.metadata.General.title: s for s in images if s.axes_manager.signal_dimension == 2}
    maps = fmm.element_maps([named[element] for element in ("Co", "O", "Fe")])
    with pytest.warns(UserWarning, match="maps of Co, O, Fe are zero everywhere"):
        fused = maps.fuse(named["DF-S"])
    assert not fused.data.any()
    with pytest.raises(ValueError, match="haadf: found 128 x 128 pixels .* 16 x 20 in the element maps"):
        maps.fuse(named["a"])
