"""Real data run through the public face to their tolerance."""

import warnings

import exspy  # noqa: F401  registers the spectrum classes
import hyperspy.api as hs
import numpy as np
import pytest
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter

import hyperspy_fusedmm as fmm

TOLERANCE = 1e-3


def check(fused, model):
    values = np.asarray(fused.data)
    assert model.converged
    assert -1e-9 <= model.relative_gap <= TOLERANCE
    assert np.isfinite(values).all() and values.min() >= 0
    explained = 1 - model.haadf_residual.data.var() / model.haadf.data.var()
    return explained


def test_dysco3(real_data):
    """Quantified fractions at atomic resolution, no pixel size."""
    arrays = np.load(real_data("dysco3/dysco3.npz"))
    crop = slice(0, 128), slice(0, 128)
    maps = fmm.element_maps({name: arrays[name][crop] for name in ("Sc", "Dy", "O")})
    fused, model = maps.fuse(
        hs.signals.Signal2D(arrays["HAADF"][crop]), tolerance=TOLERANCE, return_model=True
    )
    assert model.fidelity == ["gaussian"] * 3
    assert check(fused, model) > 0.8
    # Columns of dysprosium dominate the image and the map alike.
    blurred = gaussian_filter(model.haadf.data, 1.0)
    assert np.corrcoef(blurred.ravel(), fused.get_map("Dy").data.ravel())[0, 1] > 0.7


def test_silica_spheres(real_data):
    """A spectrum image and a HAADF image with a large offset, lines extracted by eXSpy."""
    spectrum = hs.load(real_data("sio2/sio2_eds.hspy"))
    haadf = hs.load(real_data("sio2/sio2_haadf.hspy"))
    maps = fmm.element_maps(spectrum.get_lines_intensity(["C_Ka", "O_Ka", "Si_Ka"]))
    with pytest.warns(UserWarning, match="collinear"):
        fused, model = maps.fuse(haadf, tolerance=TOLERANCE, return_model=True)
    assert model.fidelity == ["poisson"] * 3
    assert check(fused, model) > 0.9
    # Nothing in the image is darker than 4.37e5: that much is there without specimen.
    assert 4.0e5 < model.haadf_offset < 5.5e5
    assert fused.axes_manager["x"].units == "µm"
    np.testing.assert_allclose(
        fused.data.mean(axis=(1, 2)), model.maps.data.mean(axis=(1, 2)), rtol=0.1
    )


def test_dust_particle(real_data):
    """Many elements at very low counts from a Bruker file."""
    haadf, spectrum = hs.load(real_data("dust_particle/tilt_0.bcf"))
    region = slice(64, 192), slice(64, 192)
    lines = ["Ca_Ka", "Cu_Ka", "Fe_Ka", "Ga_Ka", "Mg_Ka", "O_Ka", "Pt_La", "S_Ka", "Si_Ka"]
    maps = fmm.element_maps(spectrum.inav[region].get_lines_intensity(lines))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so many maps need not be identified
        fused, model = maps.fuse(haadf.isig[region], tolerance=TOLERANCE, return_model=True)
    assert fused.elements == [line[:-3] for line in lines]
    assert check(fused, model) > 0.7


def test_quantum_dots(real_data):
    """One frame, a few hundred counts in all."""
    arrays = loadmat(real_data("quantum_dots/field_6.mat"))
    names = {"Se": "Sei_img", "S": "Si_img", "Zn": "Zni_img"}
    maps = fmm.element_maps({k: (arrays[v][..., 0] > 0).astype("u1") for k, v in names.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a single frame need not identify the weights
        fused, model = maps.fuse(
            arrays["haadf_stem"][..., 0], tolerance=TOLERANCE, return_model=True
        )
    assert model.fidelity == ["poisson"] * 3
    assert check(fused, model) > 0.3
