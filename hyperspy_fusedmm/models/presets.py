"""What "auto" stands for: the defaults, and published sets of options."""

from dataclasses import dataclass

from .checks import choice


@dataclass(frozen=True)
class Preset:
    """A set of options for what is left "auto".

    Attributes
    ----------
    model : dict
        Options of :meth:`ElementMaps.create_model`.
    fit : dict
        Options of :meth:`FusedMultiModal.fit`.
    scaled : bool
        Whether maps and image are scaled to [0, 1] as published. All options are in these units then.
    background : float, optional
        Background of every Poisson map.
    """

    model: dict
    fit: dict
    scaled: bool = False
    background: float | None = None

    def of_maps(self, names, fidelity):
        """Options that follow from the likelihood of the maps.

        Parameters
        ----------
        names : list of str
        fidelity : list of str
            "poisson" or "gaussian" per map.

        Returns
        -------
        dict
        """
        if self.background is None:
            return {}
        poisson = [name for name, entry in zip(names, fidelity) if entry == "poisson"]
        return {"background": dict.fromkeys(poisson, self.background)}

    def of_image(self, numbers, forward, gamma):
        """Options that say how the maps make up the scaled image.

        In the tutorial Z / mean(Z) multiplies x to the power of gamma.

        Parameters
        ----------
        numbers : (E,) array
            Atomic numbers.
        forward : {"linear", "power"}
        gamma : float

        Returns
        -------
        dict
        """
        if not self.scaled:
            return {}
        weights = numbers / numbers.mean()
        if forward == "power":
            weights = weights ** (1 / gamma)
        return {"weights": weights, "haadf_offset": 0.0, "haadf_noise": 1.0}


NO_PRESET = Preset(
    model={"forward": "linear", "gamma": 1.7},
    fit={"lambda_chem": 1.0, "solver": "primal-dual"},
)

PRESETS = {
    # The objective and the algorithm of Schwartz et al., npj Comput. Mater. 8, 16 (2022), with the settings
    # for DyScO3 of the tutorial, Manassa et al., Elemental Microscopy (2024).
    "schwartz2022": Preset(
        model={"forward": "power", "gamma": 1.6, "fidelity": "poisson"},
        fit={
            "lambda_haadf": 1 / 3,
            "lambda_chem": 0.08,
            "count_slope": 1.0,
            "lower_bound": 0.0,
            "lambda_tv": 0.15,
            "regularization": "tv",
            "guided": False,
            "relative": False,
            "regularization_weights": "uniform",
            "solver": "gradient-descent",
        },
        scaled=True,
        background=0.24,
    ),
}


def named(name):
    """The preset of a name.

    Parameters
    ----------
    name : str or None
        None for the defaults.

    Returns
    -------
    Preset

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    return NO_PRESET if name is None else PRESETS[choice(name, tuple(PRESETS), "preset")]


def filled(given, defaults):
    """Options with what "auto" stands for; "auto" itself where that is decided later.

    Parameters
    ----------
    given : dict
    defaults : dict

    Returns
    -------
    dict

    Examples
    --------
    >>> filled({"gamma": "auto", "forward": "linear"}, {"gamma": 1.6, "forward": "power"})
    {'gamma': 1.6, 'forward': 'linear'}
    """
    return {
        name: defaults.get(name, value) if isinstance(value, str) and value == "auto" else value
        for name, value in given.items()
    }
