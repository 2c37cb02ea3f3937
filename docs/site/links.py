"""Conversion of links between files of the repository to links of the site."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

ROOT = Path(__file__).parents[2]


def place_in_site(path: str) -> str:
    """Return the path of a repository file in the site."""
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def place_in_repository(uri: str) -> str:
    """Return the repository file of a page."""
    if uri == "index.md":
        return "README.md"
    return f"docs/{uri}" if (ROOT / "docs" / uri).exists() else uri


class RepositoryLinks(Extension):
    """``current`` is the page that is being converted, or None for a generated page."""

    def __init__(self, current: Callable[[], str | None]) -> None:
        super().__init__()
        self.current = current

    def extendMarkdown(self, md: Markdown) -> None:
        # before mkdocs' own processor (priority 0), which checks that targets exist
        md.treeprocessors.register(_Links(md, self.current), "repository-links", 1)


class _Links(Treeprocessor):
    def __init__(self, md: Markdown, current: Callable[[], str | None]) -> None:
        super().__init__(md)
        self.current = current

    def run(self, root: Element) -> None:
        uri = self.current()
        if uri is None:
            return
        for element in root.iter():
            for attribute in ("href", "src"):
                if (target := element.get(attribute)) is not None:
                    self.change(element, attribute, target, uri)

    def change(self, element: Element, attribute: str, target: str, uri: str) -> None:
        parts = urlsplit(target)
        if parts.scheme or not parts.path:
            return
        folder = posixpath.dirname(place_in_repository(uri))
        path = posixpath.normpath(posixpath.join(folder, parts.path))
        if (ROOT / path).is_dir():  # the site has no folder listings
            element.tag = "span"
            del element.attrib[attribute]
            return
        new = posixpath.relpath(place_in_site(path), posixpath.dirname(uri) or ".")
        element.set(attribute, new + (f"#{parts.fragment}" if parts.fragment else ""))
