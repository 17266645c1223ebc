"""Checks a built site: no dead link, no page that loads anything from the network.

python tools/check_site.py OUT
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes that load a file at once, but those that only lead there if they are clicked.
LOADING = ("src", "srcset", "poster", "data", "xlink:href")
LEADING = ("a", "area")
ADDRESS = re.compile(r"(?:@import\s+|url\(\s*)[\"']?([^\"')\s;]+)", re.IGNORECASE)


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
        self.anchors |= {
            found[name] for name in ("id", "name" if tag == "a" else "id") if name in found
        }
        if "href" in found:
            (self.links if tag in LEADING else self.loaded).add(found["href"])
        for name in LOADING:
            if name in found:
                each = found[name].split(",") if name == "srcset" else [found[name]]
                self.loaded |= {address.split()[0] for address in each if address.strip()}
        self.loaded |= set(ADDRESS.findall(found.get("style", "")))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() and self.get_starttag_text().startswith("<style"):
            self.loaded |= set(ADDRESS.findall(data))


def faults(site: Path) -> list[str]:
    """Returns one line per dead link and per address in the network that is loaded."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site} has no page"]
    for path, page in pages.items():
        for address in sorted(page.links | page.loaded):
            fault = fault_of(address, path, site, pages, address in page.loaded)
            found += [f"{path.relative_to(site)} {fault}"] if fault else []
    for path in sorted(site.rglob("*.css")):
        for address in sorted(set(ADDRESS.findall(path.read_text(encoding="utf-8")))):
            fault = fault_of(address, path, site, pages, True)
            found += [f"{path.relative_to(site)} {fault}"] if fault else []
    return found


def fault_of(
    address: str, path: Path, site: Path, pages: dict[Path, Page], loaded: bool
) -> str | None:
    """Returns what is wrong with an address in the file `path`; None if it leads somewhere."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return f"has the address {address}, which is none"
    if parts.scheme or parts.netloc:
        return f"loads {address}" if loaded and parts.scheme != "data" else None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not (target.is_file() and target.is_relative_to(site)):
        return f"links to {address}, which is not there"
    anchor = unquote(parts.fragment)
    if not loaded and target in pages and anchor not in {"", "top", *pages[target].anchors}:
        return f"links to {address}, which has no such place"
    return None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/check_site.py OUT")
    sys.exit("\n".join(faults(Path(sys.argv[1]).resolve())) or 0)
