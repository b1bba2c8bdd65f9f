"""Configuration of Sphinx: ``python -m sphinx docs docs/_build/html`` builds the pages.

Figures are drawn while the pages are built, by the code that the pages show.
"""

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# eXSpy 0.3.2 imports from where HyperSpy 2.5 would rather not have it.
warnings.filterwarnings("ignore", message="Importing `Lazy")

from hyperspy_fusedmm import __version__  # noqa: E402

project = "hyperspy_fusedmm"
author = "The hyperspy_fusedmm developers"
copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "matplotlib.sphinxext.plot_directive",
]
# Equations without a connection, where the package that brings MathJax along is installed.
if find_spec("sphinx-mathjax-offline"):
    extensions.append("sphinx-mathjax-offline")

exclude_patterns = ["_build", "generated/*/*"]
templates_path = ["_templates"]
default_role = None
nitpicky = False

autosummary_generate = True
# The public names of a module are those of its __all__, wherever they were written.
autosummary_ignore_module_all = False
autodoc_typehints = "none"
# Listed by autodoc, without the hundreds that signals inherit from HyperSpy; see _templates.
numpydoc_show_class_members = False
autodoc_member_order = "groupwise"

# Links into other projects need a connection; without one the pages build all the same.
intersphinx_mapping = {}
if os.environ.get("READTHEDOCS"):
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "hyperspy": ("https://hyperspy.org/hyperspy-doc/current", None),
        "exspy": ("https://hyperspy.org/exspy", None),
    }

plot_formats = [("png", 110)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = True
plot_rcparams = {"figure.dpi": 110, "savefig.bbox": "tight"}
plot_apply_rcparams = True
plot_pre_code = """
import warnings
import hyperspy.api as hs
warnings.filterwarnings("ignore", message="Importing `Lazy")
hs.preferences.General.show_progressbar = False
"""

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_sidebars = {page: [] for page in ("changes", "getting_started", "limits")}


def prepare_docstring(app, what, name, obj, options, lines):
    """Make docstrings as people read them what Sphinx reads.

    A raw docstring, which formulas need, keeps the backslash that continues a line; and HyperSpy's
    way to write dimensions, (|x, y), looks like the start of a substitution.
    """
    text = "\n".join(lines).replace("\\\n", "").replace("(|x, y)", r"(\|x, y)")
    lines[:] = text.split("\n")


def skip_inherited(app, what, name, obj, skip, options):
    """Leave out what classes inherit from other projects, and the methods that are refused."""
    function = getattr(obj, "fget", obj)
    module = getattr(function, "__module__", None) or ""
    ours = module.startswith("hyperspy_fusedmm") and module != "hyperspy_fusedmm.models.inherited"
    return None if ours or not callable(function) else True


def setup(app):
    """Called by Sphinx; numpydoc comes after it."""
    app.connect("autodoc-process-docstring", prepare_docstring, priority=100)
    app.connect("autodoc-skip-member", skip_inherited)
