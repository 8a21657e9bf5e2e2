"""Configuration of Sphinx; build.py runs it on pages that it has put together."""

import sys
from pathlib import Path

import les

sys.path.insert(0, str(Path(__file__).parent))  # for mathml

project = "les"
author = "the les developers"
version = release = les.__version__

extensions = ["mathml", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}

# Pages load nothing from elsewhere: fonts and scripts are those of the browser and of this site.
html_show_copyright = False
html_theme = "furo"
html_title = f"les {version}"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
smartquotes = False  # options begin with two hyphens

# Anchors of headings, down to ###, may be linked to: page.md#heading.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_digits = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Fields of a class are documented once, by the comments beside them or by the docstring.
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
# Cards of the benchmarks leave out a level of headings.
suppress_warnings = ["myst.header"]
