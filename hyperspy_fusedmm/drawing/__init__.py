"""Figures of fused maps and of how they came about.

Every function draws and returns a matplotlib Figure, and shows nothing by itself.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
