"""How the site is built: these pages, and the API reference from the docstrings.

`make docs` fails on a broken link and on a name in a docstring that leads nowhere: Sphinx in
nitpicky mode, with warnings as errors. The pages stay plain Markdown that reads well in any
viewer; what Sphinx needs besides, the list of pages, is made here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from calibration_ledger import __version__

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "calibration-ledger"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True
nitpick_ignore_regex = [
    # Of Python's own library, whose list of names would have to be fetched.
    ("py:.*", r"(datetime|os|pathlib|collections\.abc|types|typing)\..*"),
    ("py:.*", r"datetime|date|timedelta|Path|Self|TextIO|TracebackType"),
    ("py:.*", "Callable|Iterable|Iterator|Mapping|Sequence|AsyncIterable"),
    ("py:.*", r"(calibration_ledger\.verbs\.timed\.)?(Chunk|Function)"),  # variables of types
    ("py:.*", "Input|Placed"),  # what a format of ours reads and gives; others get a path
]
add_module_names = False

# The pages: links lead to headings by the anchors that the usual viewers give them.
myst_heading_anchors = 3

# The docstrings: Google's sections, and `names` in single backticks, as in Markdown.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "calibration-ledger"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]


def add_pages(_app: Sphinx, name: str, source: list[str]) -> None:
    """List in the menu what the table of the index leads to, and the API reference."""
    if name == "index":
        pages = re.findall(r"\]\(([\w-]+)\.md\) \|$", source[0], re.MULTILINE)
        listed = "\n".join([*pages, "reference"])
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{listed}\n```\n"


def find_by_name(
    app: Sphinx, _env: BuildEnvironment, node: pending_xref, shown: Element
) -> Element | None:
    """Let a bare name lead to the one class of the reference that bears it.

    Signatures and docstrings say `Replay`; only Sphinx wants to know from which module.
    """
    domain = app.env.domains.python_domain
    name = node["reftarget"].rpartition(".")[2]
    found = [full for full in domain.objects if full.rpartition(".")[2] == name]
    if len(found) != 1 or node.get("refdomain") != "py":
        return None
    node["reftarget"] = found[0]
    return domain.resolve_xref(
        app.env, node["refdoc"], app.builder, node["reftype"], found[0], node, shown
    )


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("missing-reference", find_by_name)
    app.connect("source-read", add_pages)
