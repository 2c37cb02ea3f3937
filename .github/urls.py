"""Write the address of a repository into pyproject.toml and README.md before a release is built.

PyPI shows README.md away from the other files, so its links and pictures need whole addresses. They name
the tag, so that the page of a version keeps showing that version::

    python .github/urls.py OWNER/NAME TAG
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
TARGET = re.compile(r"(?P<picture>!?)(?P<text>\[[^\]]*\])\((?!https?:)(?P<path>[^)\s]*)\)")
BEFORE = "[project.optional-dependencies]\n"


def with_whole_links(readme: str, repository: str, tag: str) -> str:
    """Return README.md with links to files of ``repository`` as they are at ``tag``."""

    def whole(link: re.Match[str]) -> str:
        place = f"https://github.com/{repository}/blob/{tag}/"
        if link["picture"]:
            place = f"https://raw.githubusercontent.com/{repository}/{tag}/"
        path = link["path"] if link["path"][0] != "#" else f"README.md{link['path']}"
        return f"{link['picture']}{link['text']}({place}{path})"

    parts = CODE.split(readme)
    parts[::2] = [TARGET.sub(whole, part) for part in parts[::2]]
    return "".join(parts)


def with_urls(project: str, repository: str, tag: str) -> str:
    """Return pyproject.toml with the table of addresses that PyPI shows beside a package."""
    owner, name = repository.split("/")
    source = f"https://github.com/{repository}"
    urls = {
        "Documentation": f"https://{owner.lower()}.github.io/{name}/",
        "Source": source,
        "Issues": f"{source}/issues",
        "Changelog": f"{source}/blob/{tag}/CHANGELOG.md",
    }
    table = "".join(f'{key} = "{url}"\n' for key, url in urls.items())
    assert project.count(BEFORE) == 1
    return project.replace(BEFORE, f"[project.urls]\n{table}\n{BEFORE}")


if __name__ == "__main__":
    for name, change in (("README.md", with_whole_links), ("pyproject.toml", with_urls)):
        text = (ROOT / name).read_text("utf-8")
        (ROOT / name).write_text(change(text, *sys.argv[1:3]), "utf-8", newline="\n")
