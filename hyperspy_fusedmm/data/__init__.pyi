__all__ = [
    "core_shell_particles",
    "dysco3",
    "gallium_oxide_film",
    "perovskite_lattice",
    "Specimen",
    "write_velox",
]

from .core_shell import core_shell_particles
from .film import gallium_oxide_film
from .lattice import perovskite_lattice
from .published import dysco3
from .specimen import Specimen
from .velox_writer import write_velox
