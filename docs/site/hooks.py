"""Hooks of mkdocs: generated pages and pictures, documents of the repository, and their links."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402
from mkdocs.structure.pages import Page  # noqa: E402
from pygments.lexers import LEXERS  # noqa: E402

from danetc.reference import topic  # noqa: E402
from docs.site import pages, pictures  # noqa: E402
from docs.site.links import RepositoryLinks, place_in_site  # noqa: E402

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE")
FOLDERS = {
    "results": ("md", "svg", "json", "csv", "danet"),
    "specs": ("danet",),
    "examples": ("danet", "py", "md"),
}
"""Files from other folders that the site includes, by the paths in links."""

_current: dict[str, str | None] = {"uri": None}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Register the lexer and the link processor, independently of the installed package."""
    LEXERS.setdefault(
        "DanetLexer", ("danetc.highlighting.lexer", "danet", ("danet",), ("*.danet",), ())
    )
    config.markdown_extensions.append(RepositoryLinks(lambda: _current["uri"]))  # type: ignore[arg-type]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add files from outside docs/: documents, specs, results, and the generated reference."""
    for path in repository_files():
        file = File.generated(config, place_in_site(path), abs_src_path=str(ROOT / path))
        files.append(file)
    generated = {"reference/index.md": pages.index(), "reference/grammar.md": pages.grammar()}
    generated |= {f"reference/{name}.md": pages.page(name) for name in pages.PAGES}
    for uri, text in generated.items():
        files.append(File.generated(config, uri, content=text))
    for entry in topic("pretrained"):
        content = pages.card(entry)
        files.append(File.generated(config, pages.card_of(entry), content=content))
    drawn = [
        entry
        for row in pages.PAGES.values()
        for each in row.topics
        for entry in topic(each)
        if pictures.has_picture(entry)
    ]
    with ProcessPoolExecutor(2) as pool:
        for entry, svg in zip(drawn, pool.map(pictures.picture, drawn, chunksize=4), strict=True):
            files.append(File.generated(config, pictures.name_of(entry), content=svg))
    return files


def repository_files() -> list[str]:
    """Return the files outside docs/ that the site includes."""
    found = [*DOCUMENTS]
    for folder, endings in FOLDERS.items():
        for ending in endings:
            found += [
                path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(f"*.{ending}")
            ]
    return sorted(found)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Set the page that is converted next."""
    uri = page.file.src_uri
    _current["uri"] = None if uri.startswith("reference/") else uri
    return markdown
