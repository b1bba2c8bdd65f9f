"""What the fusion is compared with, every method with its settings chosen with the truth.

A method yields candidates ``(setting, maps)``. Where its elements do not depend on each other every element
takes its own best candidate; else one candidate is chosen for all.
"""

import numpy as np
from accuracy_oracle import Form, tuned_alone
from scipy.ndimage import gaussian_filter

BLUR_WIDTHS = (0.0, *np.geomspace(0.4, 20, 30))
# In units of the standard deviation of the transformed map.
TV_WEIGHTS = np.geomspace(0.05, 30, 20)
# In units of the noise.
NLM_STRENGTHS = np.geomspace(0.2, 4, 10)
NLM_PATCHES = ((3, 9), (7, 11))
MOST_COMPONENTS = 12


def best_per_element(candidates, loss):
    """The best candidate of every element on its own.

    Parameters
    ----------
    candidates : iterable of (setting, (E, R, C) array)
    loss : callable
        ``loss(maps)`` gives (E,) numbers.

    Returns
    -------
    maps : (E, R, C) array
    settings : list
    """
    maps = settings = lowest = None
    for setting, found in candidates:
        losses = loss(found)
        if lowest is None:
            maps, settings, lowest = np.array(found, dtype=float), [setting] * len(losses), losses
            continue
        for element in np.flatnonzero(losses < lowest):
            maps[element], settings[element] = found[element], setting
        lowest = np.minimum(losses, lowest)
    return maps, settings


def best_in_common(candidates, loss):
    """The candidate that is best on the mean over the elements."""
    candidates = ((float(loss(maps).mean()), setting, maps) for setting, maps in candidates)
    _, setting, maps = min(candidates, key=lambda candidate: candidate[0])
    return maps, setting


def raw(specimen, loss):
    """The counts."""
    return counts_of(specimen), None


def blurred(specimen, loss):
    """Gaussian blur, mirrored at the borders."""
    counts = counts_of(specimen)
    candidates = (
        (float(width), np.stack([gaussian_filter(values, width) for values in counts]))
        for width in BLUR_WIDTHS
    )
    return best_per_element(candidates, loss)


def total_variation(specimen, loss):
    """scikit-image's total variation, on the counts or on their Anscombe transform."""
    from skimage.restoration import denoise_tv_chambolle

    def denoised(values, weight):
        spread = values.std()
        scaled = values / spread if spread > 0 else values
        return denoise_tv_chambolle(scaled, weight, eps=1e-5, max_num_iter=300) * spread

    return best_per_element(_transformed(specimen, denoised, TV_WEIGHTS), loss)


def non_local_means(specimen, loss):
    """scikit-image's non-local means, on the counts or on their Anscombe transform."""
    from skimage.restoration import denoise_nl_means

    def denoised(values, setting):
        strength, (patch, distance) = setting
        # Of counts the noise is that of their mean; the transform's is 1.
        noise = 1.0 if values.min() >= anscombe(0) else np.sqrt(values.mean())
        options = {"patch_size": patch, "patch_distance": distance, "sigma": noise}
        return denoise_nl_means(values, h=strength * noise, fast_mode=True, **options)

    settings = [(strength, patch) for patch in NLM_PATCHES for strength in NLM_STRENGTHS]
    return best_per_element(_transformed(specimen, denoised, settings), loss)


def _transformed(specimen, denoised, settings):
    """Candidates of a method for Gaussian noise, applied as it is and to variance-stabilised counts."""
    counts = counts_of(specimen)
    stabilised = anscombe(counts)
    for setting in settings:
        yield ("counts", setting), np.stack([denoised(values, setting) for values in counts])
        found = np.stack([denoised(values, setting) for values in stabilised])
        yield ("Anscombe", setting), inverse_anscombe(found)


def anscombe(counts):
    """Transform of Poisson counts whose variance is about 1."""
    return 2 * np.sqrt(np.asarray(counts, dtype=float) + 3 / 8)


def inverse_anscombe(values):
    """Expected counts from the mean of their transform, without bias.

    M. Makitalo and A. Foi, IEEE Trans. Image Process. 20, 99 (2011), equation 8.
    """
    values = np.maximum(values, anscombe(0))
    root = np.sqrt(1.5)
    inverse = (
        values**2 / 4 + root / 4 / values - 11 / 8 / values**2 + 5 / 8 * root / values**3 - 1 / 8
    )
    return np.maximum(inverse, 0)


def principal_components(specimen, loss):
    """HyperSpy's decomposition with Poisson scaling; of the spectra, or of the maps where there are none.

    The intensities of the lines are summed over eXSpy's windows, the known background is subtracted and what the
    windows cut off is put back. The number of components is chosen with the truth.
    """
    loadings, factors = _decomposed(specimen)

    def candidates():
        for number in range(1, loadings.shape[1] + 1):
            maps = (loadings[:, :number] @ factors[:, :number].T).T
            maps = maps.reshape(specimen.maps.data.shape)
            if specimen.spectrum is not None:
                maps = (maps - specimen.background) / specimen.line_shares[:, None, None]
            yield number, np.maximum(maps, 0)

    return best_in_common(candidates(), loss)


def _decomposed(specimen):
    """Loadings (pixels, K) and the sums of the factors over the window of each line (E, K)."""
    if specimen.spectrum is None:
        from hyperspy.signals import Signal1D

        signal = Signal1D(np.moveaxis(counts_of(specimen), 0, -1))
        windows = [slice(e, e + 1) for e in range(len(specimen.elements))]
    else:
        signal = specimen.spectrum.deepcopy()
        signal.change_dtype("float32")
        axis = signal.axes_manager.signal_axes[0]
        lines = signal.metadata.Sample.xray_lines
        windows = [
            slice(*axis.value2index(np.asarray(window, dtype=float)))
            for window in signal.estimate_integration_windows(2.0, xray_lines=lines)
        ]
    most = min(MOST_COMPONENTS, signal.axes_manager.signal_axes[0].size)
    signal.decomposition(
        normalize_poissonian_noise=True,
        # eXSpy leaves out pixels without more than one count, at low doses all of them.
        navigation_mask=None,
        output_dimension=most,
        print_info=False,
        svd_solver="full" if most < MOST_COMPONENTS else "arpack",
    )
    results = signal.learning_results
    loadings = np.nan_to_num(results.loadings[:, :most])
    factors = np.nan_to_num(results.factors[:, :most])
    return loadings, np.stack([factors[window].sum(axis=0) for window in windows])


def poisson_total_variation(specimen, loss):
    """Poisson likelihood, as published or as by default, and TV without the image, uniform or per pixel."""
    choices = [(pixelwise, published) for pixelwise in (True, False) for published in (True, False)]
    found = [
        tuned_alone(specimen, Form(regularization="tv", pixelwise=pixelwise), loss, published)
        for pixelwise, published in choices
    ]
    names = [
        f"{each.form.name}{' published' * published}" for each, (_, published) in zip(found, choices)
    ]
    return best_per_element([(name, each.maps) for name, each in zip(names, found)], loss)


def automatic(specimen, loss):
    """This project, with nothing said."""
    fused, model = specimen.maps.fuse(specimen.haadf, return_model=True, show_progressbar=False)
    return fused.data, described(model)


def automatic_sensitivities(specimen, loss):
    """This project, with the sensitivities known."""
    fused, model = specimen.maps.fuse(
        specimen.haadf,
        return_model=True,
        show_progressbar=False,
        sensitivities=specimen.sensitivities,
    )
    return fused.data, described(model)


def automatic_alone(specimen, loss):
    """This project, without the image."""
    model = specimen.maps.create_model()
    model.fit(show_progressbar=False)
    return model.fused.data, described(model)


def described(model):
    """What an automatic fit has chosen."""
    return {
        "lambda_tv": np.asarray(model.lambda_tv).tolist(),
        "lambda_haadf": float(model.lambda_haadf),
        "regularization": model.regularization,
        "guided": bool(model.guided),
        "relative": bool(model.relative),
        "weights": np.asarray(model.weights).tolist(),
        "haadf_noise": float(np.mean(model.haadf_noise)),
        "iterations": int(model.iterations),
    }


def counts_of(specimen):
    """The measured maps as plain numbers."""
    return np.asarray(specimen.maps.data, dtype=float)
