__all__ = [
    "plot_composition_histogram",
    "plot_convergence",
    "plot_diagnosis",
    "plot_maps",
    "plot_overlay",
    "plot_selection",
]

from .comparison import plot_maps
from .composition_histogram import plot_composition_histogram
from .convergence import plot_convergence
from .diagnosis import plot_diagnosis
from .overlay import plot_overlay
from .selection import plot_selection
