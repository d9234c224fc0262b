"""How `make docs` makes a site of these pages, which are plain Markdown for GitHub besides.

Sphinx, because MkDocs is no longer kept, Material for it has ended, and Zensical cannot be installed everywhere yet;
Furo, because it is a theme that loads nothing from another host.
"""

import re
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

REPOSITORY = Path(__file__).resolve().parents[1]
INCLUDED = {str(REPOSITORY / "README"): "index", str(REPOSITORY / "CHANGELOG"): "changelog"}
"""Which page includes a file that stands outside of docs/."""

project = "homelab-ai-api"
version = release = version_of(project)
extensions = ["myst_parser", "sphinx_copybutton"]
nitpicky = True
smartquotes = False  # what is quoted is to be typed
suppress_warnings = ["misc.highlighting_failure"]  # answers are shown with `...` in them

myst_heading_anchors = 3  # by the names that GitHub gives them
copybutton_prompt_text = "$ "

html_theme = "furo"
pygments_dark_style = "one-dark"
html_title = project
html_logo = html_favicon = "../src/homelab_ai/admin/static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#4453d6", "color-brand-content": "#4453d6"},
    "dark_css_variables": {"color-brand-primary": "#8f9bff", "color-brand-content": "#8f9bff"},
}  # those of the admin page
html_copy_source = html_show_copyright = html_use_index = False


class Pictures(SphinxTransform):
    """A picture for light and one for dark, written as GitHub has it, follows the switch of the theme here."""

    default_priority = 400
    _FORM = re.compile(
        r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">'
        r'\s*<img src="(?P<light>[^"]+)" alt="(?P<alt>[^"]+)" width="(?P<width>\d+)">\s*</picture>\s*'
    )

    def apply(self) -> None:
        """Put two images in the place of each."""
        for raw in [*self.document.findall(nodes.raw)]:
            if found := self._FORM.fullmatch(raw.astext()):
                folder = Path(raw.source or "").parent  # that of the README, for what is taken from there
                images = [
                    nodes.image(
                        uri=f"/{(folder / found[scheme]).resolve().relative_to(self.env.srcdir)}",
                        alt=found["alt"],
                        width=f"{found['width']}px",
                        classes=[f"only-{scheme}"],
                    )
                    for scheme in ("light", "dark")
                ]
                raw.replace_self(nodes.paragraph("", "", *images))


class Included(SphinxTransform):
    """A link to a file that a page includes leads to that page; other files outside of docs/ are downloads."""

    default_priority = Pictures.default_priority

    def apply(self) -> None:
        """Put the names of pages in the place of those of files."""
        for link in self.document.findall(addnodes.pending_xref):
            link["reftarget"] = INCLUDED.get(link["reftarget"], link["reftarget"])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_transform(Pictures)
    app.add_transform(Included)
