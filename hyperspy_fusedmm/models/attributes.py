"""What a fusion was given, what it chose and what it found, as read-only attributes."""

import numpy as np


class Attributes:
    """Public attributes of a fusion.

    ``_setup`` holds what decides the terms of the objective, ``_result`` what decides their weights, and
    the outcome; both are dictionaries of plain values, so that a file keeps them.
    """

    _haadf = _setup = _result = None

    @property
    def _fitted(self):
        if self._result is None:
            raise RuntimeError("The model is not fitted yet: call fit() first.")
        return self._result

    @property
    def _found_maps(self):
        """Fused maps (E, R, C) in the units of the objective."""
        return self._fitted["maps"]

    def _known(self, name, kind):
        """A result of the last fit, None as long as lazy maps were not computed."""
        value = self._fitted[name]
        return None if value is None else kind(value)

    # What was given or chosen

    @property
    def maps(self):
        """The measured maps (ElementMaps), the same object as ``signal``."""
        return self.signal

    @property
    def haadf(self):
        """The HAADF image (Signal2D), a copy of what was given; None without one."""
        return self._haadf

    @property
    def forward(self):
        """Model of the HAADF image: "linear" or "power"."""
        return self._setup["forward"]

    @property
    def gamma(self):
        """Exponent of the atomic number in the HAADF intensity of one atom."""
        return float(self._setup["gamma"])

    @property
    def fidelity(self):
        """Likelihood of each map: list of "poisson" or "gaussian"."""
        return [str(entry) for entry in self._setup["fidelity"]]

    @property
    def sensitivities(self):
        """Counts one atom of each element yields, shape (E,); None where not given."""
        return self._setup["sensitivities"]

    @property
    def weights(self):
        """HAADF intensity per count of each element, shape (E,); 0 without a HAADF image."""
        return self._setup["weights"]

    @property
    def weights_error(self):
        """Standard errors of ``weights``, shape (E,); 0 for given ones.

        They hold the noise of maps and image and what the model does not describe of the image; where the maps
        do not tell a weight, the spread of what is expected of it; where only a common factor was fitted, its
        error alone.
        """
        return self._setup["weights_error"]

    @property
    def weights_covariance(self):
        """Covariance of ``weights`` and, last, ``haadf_offset``, shape (E + 1, E + 1)."""
        return self._setup["weights_covariance"]

    @property
    def weights_data_share(self):
        """How much of each weight the data decided, shape (E,): 1 all, 0 nothing, then it is the prior's."""
        return self._setup["weights_data_share"]

    @property
    def weights_rule(self):
        """How the weights were found: "given", "sensitivities", "fitted", "prior", "preset" or "none".

        "prior": of at least one weight the atomic number said more than the data, see ``weights_data_share``.
        """
        return str(self._setup["weights_rule"])

    @property
    def gamma_error(self):
        """Standard error of ``gamma`` (float); 0 unless it was fitted."""
        return float(self._setup["gamma_error"])

    @property
    def haadf_offset_error(self):
        """Standard error of ``haadf_offset`` (float); 0 where it was given or stored."""
        return float(self._setup["haadf_offset_error"])

    @property
    def haadf_noise_error(self):
        """Standard error of ``haadf_noise`` (float); 0 where it was given."""
        return float(self._setup["haadf_noise_error"])

    @property
    def haadf_offset(self):
        """HAADF intensity without specimen (float)."""
        return float(self._setup["haadf_offset"])

    @property
    def haadf_noise(self):
        """Standard deviation of the HAADF image from its model: float, or array of shape (R, C)."""
        return self._setup["haadf_noise"]

    @property
    def background(self):
        """Expected counts that are not the element's own, shape (E,) or (E, R, C)."""
        return self._setup["background"]

    @property
    def noise(self):
        """Standard deviation of Gaussian maps, shape (E,) or (E, R, C); 1 for Poisson maps."""
        return self._setup["noise"]

    @property
    def preset(self):
        """Name of the published set of options, or None."""
        return self._setup["preset"]

    @property
    def map_offset(self):
        """What is taken off every map for the objective, shape (E,); 0 unless a preset scales the maps."""
        return self._setup["map_offset"]

    @property
    def map_scale(self):
        """What every map is divided by for the objective, shape (E,); 1 unless a preset scales the maps."""
        return self._setup["map_scale"]

    @property
    def image_offset(self):
        """What is taken off the image for the objective (float); 0 unless a preset scales it."""
        return float(self._setup["image_offset"])

    @property
    def image_scale(self):
        """What the image is divided by for the objective (float); 1 unless a preset scales it."""
        return float(self._setup["image_scale"])

    # What fit() found

    @property
    def lambda_haadf(self):
        """Weight of the HAADF term (float); 0 without a HAADF image."""
        return float(self._fitted["lambda_haadf"])

    @property
    def lambda_chem(self):
        """Weight of the likelihood of the counts (float)."""
        return float(self._fitted["lambda_chem"])

    @property
    def count_slope(self):
        """Slope of the likelihood of each map, shape (E,); 1 is the published form."""
        return np.asarray(self._fitted["count_slope"], dtype=float)

    @property
    def lower_bound(self):
        """Smallest value that each fused map may have, shape (E,); 0 in the published form."""
        return np.asarray(self._fitted["lower_bound"], dtype=float)

    @property
    def lambda_tv(self):
        """Strength of the regularization of each element, shape (E,)."""
        return self._fitted["lambda_tv"]

    @property
    def regularization(self):
        """Regularization: "tv" or "tgv"."""
        return self._fitted["regularization"]

    @property
    def guided(self):
        """Whether edges of the HAADF image steered the regularization (bool)."""
        return bool(self._fitted["guided"])

    @property
    def relative(self):
        """Whether the regularization was relative to the HAADF image (bool)."""
        return bool(self._fitted["relative"])

    @property
    def reference_scale(self):
        """Counts per unit of the HAADF image that cost no regularization, shape (E,); 0 unless ``relative``."""
        return np.asarray(self._fitted["reference_scale"], dtype=float)

    @property
    def regularization_weights(self):
        """Strength of the regularization per pixel relative to ``lambda_tv``, shape (E, R, C)."""
        weights = self._fitted["regularization_weights"]
        return np.broadcast_to(1.0, self._found_maps.shape) if weights is None else weights

    @property
    def selection(self):
        """What the automatic choice tried: a dictionary, or None where nothing was chosen.

        For each of K candidates "regularization", "guided" and "relative" (lists), "lambda_haadf" (K,), "lambda_tv" (K, E),
        "error" (K, E), the estimated squared error of each map relative to its squares less that of the
        chosen candidate, "deviance" (K, E), the expected half deviance of new counts less that of the
        chosen one in nats, and "score" (K,), the sum of the errors, each relative to its own size; the noise
        of the scores is taken into account, so that single ones may be below the chosen one. "chosen" is the
        number of the chosen one, "undecided" tells for each element whether it has too few counts, and "tiles"
        (T, 4) holds first and last row and column, ends excluded, of the parts of the image that were fitted. Of
        a scan that is fused chunk by chunk they are counted in the sample of it, whose pieces lie side by side.
        """
        selection = self._fitted["selection"]
        return None if selection is None else dict(selection)

    @property
    def chosen_from_data(self):
        """What of "regularization", "guided", "relative", "lambda_haadf", "lambda_tv" the data decided (list of str)."""
        return list(self._fitted["chosen_from_data"])

    @property
    def gap(self):
        """Duality gap (float): the objective is at most this far above its minimum.

        NaN where nothing bounds that: for ``forward="power"`` and after gradient descent. None as long as
        the fused maps of a large lazy scan were not computed or saved.
        """
        return self._known("gap", float)

    @property
    def relative_gap(self):
        """Duality gap relative to the objective with the likelihood as a divergence (float).

        None where ``gap`` is.
        """
        return self._known("relative_gap", float)

    @property
    def stationarity(self):
        """How far ``forward="power"`` is from a stationary point (float).

        The duality gap of the convex model of the objective at the solution, relative to the objective with
        the likelihood as a divergence. It bounds no distance to the minimum. NaN for ``forward="linear"``
        and after gradient descent.
        """
        return self._known("stationarity", float)

    @property
    def solver(self):
        """Algorithm of the last fit: "primal-dual" or "gradient-descent"."""
        return self._fitted["solver"]

    @property
    def iterations(self):
        """Iterations of the last fit (int); None as long as the maps of a large lazy scan were not computed."""
        return self._known("iterations", int)

    @property
    def converged(self):
        """Whether the last fit reached its tolerance (bool); gradient descent has none, so never does.

        None as long as the maps of a large lazy scan were not computed or saved.
        """
        return self._known("converged", bool)

    @property
    def history(self):
        """Terms, total and gap against iteration: dict of arrays of equal length.

        The names are "iteration", "haadf", "chem", "tv", "total" and "gap"; for ``forward="power"``
        "stationarity" takes the place of "gap", and after gradient descent there is neither. None as long as
        the maps of a large lazy scan were not computed or saved, and of length 1 afterwards.
        """
        return self._known("history", lambda found: {k: np.array(v) for k, v in found.items()})
