"""Example data: simulated specimens with a known truth, and published data sets.

Every simulated specimen comes as a `Specimen`: the expected counts, the counts
drawn from them, the HAADF image, and the numbers that relate them. `dysco3`
fetches the published atomic-resolution set.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
