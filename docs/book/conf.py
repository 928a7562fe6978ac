"""Settings of Sphinx for the book; docs/book/make.py runs Sphinx."""

import sys
from pathlib import Path

import rcnn

sys.path.insert(0, str(Path(__file__).parent))

project, author, release = "rcnn", "The rcnn authors", rcnn.__version__
copyright = "the rcnn authors"
language = "en"
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "terms",
]

html_theme = "pydata_sphinx_theme"
html_title = "rcnn"
html_favicon = "static/icon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the browser
html_static_path = ["static"]
html_css_files = ["book.css", "explorers.css"]
html_js_files = [("explorers.js", {"defer": "defer"}), ("book.js", {"defer": "defer"})]
html_sidebars = {name: [] for name in ("index", "glossary", "search", "genindex")}  # nothing to list there
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_start": ["navbar-logo"],
    "navbar_end": ["theme-switcher"],
    "logo": {"text": "rcnn", "alt_text": "rcnn, the start page"},
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

mathjax_path = "mathjax/es5/tex-chtml.js"
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["mystnb.unknown_mime_type"]

nb_execution_mode = "off"  # the notebooks are stored with their outputs
nb_ipywidgets_js = {}  # a stored widget has a still image, and needs no script
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"
nb_output_stderr = "remove-warn"
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give the types
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
