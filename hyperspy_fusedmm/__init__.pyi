__all__ = [
    "__version__",
    "compute_together",
    "data",
    "element_maps",
    "ElementMaps",
    "FusedMultiModal",
    "LazyElementMaps",
    "LazyFusedMultiModal",
    "load_velox",
    "save_together",
    "sensitivities_from_factors",
]

from . import data
from ._version import __version__
from .io.velox import load_velox
from .models.fused_multi_modal import FusedMultiModal
from .models.lazy_fused_multi_modal import LazyFusedMultiModal
from .models.sensitivities import sensitivities_from_factors
from .signals._lazy_element_maps import LazyElementMaps
from .signals.element_maps import ElementMaps, element_maps
from .signals.together import compute_together, save_together
