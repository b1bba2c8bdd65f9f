__all__ = ["plot_convergence", "plot_maps", "plot_overlay"]

from .comparison import plot_maps
from .convergence import plot_convergence
from .overlay import plot_overlay
