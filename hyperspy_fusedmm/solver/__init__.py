"""The mathematics of the fusion on plain arrays; knows nothing of HyperSpy."""

from .bootstrap import Bootstrap, bootstrap
from .calibration import Calibration, calibrate_haadf
from .hessian import hessian_covariance, hessian_variance
from .primal_dual import Solution, State
from .problem import FusionProblem
from .reference import haadf_reference, reference_scale
from .smoothing import estimate_noise
from .solve import solve
from .strength import default_strength, haadf_guide, pilot_weights
from .upper_limit import upper_limit

__all__ = [
    "Bootstrap",
    "Calibration",
    "FusionProblem",
    "Solution",
    "State",
    "bootstrap",
    "calibrate_haadf",
    "default_strength",
    "estimate_noise",
    "haadf_guide",
    "haadf_reference",
    "hessian_covariance",
    "hessian_variance",
    "pilot_weights",
    "reference_scale",
    "solve",
    "upper_limit",
]
