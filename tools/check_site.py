"""Checks a built site: no dead link, no page that loads anything from the network.

python tools/check_site.py OUT
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that load a file at once, by tag; an `a` leads there only if it is clicked.
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The anchors of a page, the addresses it links to, and those it loads."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attributes if value}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        if tag in LOADING and LOADING[tag] in found:
            self.loaded.add(found[LOADING[tag]])


def faults(site: Path) -> list[str]:
    """Returns one line per dead link and per address in the network that a page loads."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site} has no page"]
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in sorted(page.links | page.loaded):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.loaded and parts.scheme != "data":
                    found.append(f"{name} loads {address}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{name} links to {address}, which is not there")
            elif parts.fragment and target in pages and address not in page.loaded:
                anchor = unquote(parts.fragment)
                if anchor not in pages[target].anchors:
                    found.append(f"{name} links to {address}, which has no such place")
    for path in sorted(site.rglob("*.css")):
        loaded = re.findall(r"(?:@import|url\()\s*[\"']?(https?:|//)", path.read_text("utf-8"))
        found += [f"{path.relative_to(site)} loads from the network" for _ in loaded]
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/check_site.py OUT")
    sys.exit("\n".join(faults(Path(sys.argv[1]).resolve())) or 0)
