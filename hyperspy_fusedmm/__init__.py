"""Fused multi-modal electron microscopy for HyperSpy.

Element maps from EDX or EELS and the HAADF image recorded with them are fused
into maps that explain both: in counts, calibrated, and with a certificate.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
