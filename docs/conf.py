"""The configuration of the site; `tox -e docs` builds it."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

project = "pylog"
copyright = "the pylog authors, MIT license"
release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "pylog_docs"]
exclude_patterns = ["_ext", "generated"]
myst_heading_anchors = 3  # which links to headings are checked against
myst_enable_extensions = ["deflist"]

smartquotes = False  # which makes one dash of the two of an option
highlight_language = "text"

html_theme = "furo"
html_title = "pylog"
html_static_path = ["_static"]
html_css_files = ["pylog.css"]
html_copy_source = False
html_show_sphinx = False

default_role = "code"
nitpick_ignore_regex = [
    ("py:.*", r"(?!pylog\.).*"),  # other projects' names
    ("py:.*", r"pylog\.(backends|formats|losses|options|origins)\..*"),  # not public
    (
        "py:.*",
        r"pylog\.(filter\.bind\..*|reader\.Rows|records\.(Records|FilteredRows|R)|actions\.R"
        r"|record\.kinds\.\w+Row|table\.splits\.(Decoded|End|Future))",
    ),
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["dask", "distributed", "pandas", "pyspark", "pytest"]
