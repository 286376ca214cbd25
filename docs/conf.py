"""How Sphinx builds the site: `make docs` writes it to docs/_build, with warnings as errors."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import tensorlite  # noqa: E402

project = "tensorlite"
author = "the tensorlite authors"
copyright = "the tensorlite authors, MIT license"
release = version = tensorlite.__version__

extensions = ["myst_parser", "sphinx_copybutton", "reference", "repository", "tapes"]
exclude_patterns = ["_build", "_ext"]
myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "tensorlite"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_logo = html_favicon = "_static/logo.svg"
html_theme_options = {"sidebar_hide_name": False}
