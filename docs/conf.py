"""How the site is built: `make docs`."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "attnkit"
author = "the attnkit developers"
copyright = "the attnkit developers, MIT licence"
release = version = version_of("attnkit")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "attnkit_docs.site"]
exclude_patterns = ["build", "_ext"]
nitpicky = False
default_role = "code"

nb_execution_mode = "off"  # the tutorial comes executed; the guide's examples are run by tests/test_docs.py
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # signatures are taken as they stand in the source
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False  # what stands in the source says Weights, not what Weights stands for

html_theme = "sphinx_book_theme"
html_title = "attnkit"
html_static_path = ["_static"]
html_css_files = ["attnkit.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_start": [],  # the bar above all would show a second field for searching
    "navbar_center": [],
    "navbar_end": [],
    "navbar_persistent": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
