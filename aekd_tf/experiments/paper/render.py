"""Renders a report's parts as Markdown and as one HTML page that opens from disk."""

from __future__ import annotations

import base64
import dataclasses
import html
import os
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Text:
    text: str


@dataclasses.dataclass(frozen=True)
class Code:
    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG in the report's directory."""

    file: str
    caption: str


Part = Heading | Text | Code | Table | Picture


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Renders a Markdown table, its first `left` columns flush left and the others flush right."""
    rules = ["---"] * left + ["--:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rules, *rows))


def markdown(parts: Sequence[Part]) -> str:
    """Renders the report as Markdown for GitHub."""
    blocks = []
    for part in parts:
        if isinstance(part, Heading):
            blocks.append("#" * part.level + " " + part.text)
        elif isinstance(part, Text):
            blocks.append(part.text)
        elif isinstance(part, Code):
            blocks.append("\n".join(f"    {line}" for line in part.text.splitlines()))
        elif isinstance(part, Picture):
            blocks.append(f"![{part.caption}]({part.file})")
        else:
            blocks.append(markdown_table(part.header, part.rows))
    return "\n\n".join(blocks) + "\n"


STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .7em;text-align:right;"
    "border-bottom:1px solid #ccc}td{white-space:nowrap}"
    "pre{background:#f4f4f4;padding:.7em;overflow:auto}img{max-width:100%}"
)


def page(parts: Sequence[Part], directory: str, title: str) -> str:
    """Renders the report as one HTML page, including the pictures of `directory`."""
    body = []
    for part in parts:
        if isinstance(part, Heading):
            body.append(f"<h{part.level}>{html.escape(part.text)}</h{part.level}>")
        elif isinstance(part, Text):
            text = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(part.text))
            body.append(f"<p>{text}</p>")
        elif isinstance(part, Code):
            body.append(f"<pre>{html.escape(part.text)}</pre>")
        elif isinstance(part, Picture):
            with open(os.path.join(directory, part.file), "rb") as file:
                content = base64.b64encode(file.read()).decode("ascii")
            caption = html.escape(part.caption)
            source = f"data:image/png;base64,{content}"
            body.append(f'<p><img alt="{caption}" src="{source}"><br>{caption}</p>')
        else:
            lines = [("th", part.header), *(("td", row) for row in part.rows)]
            rows = [
                "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row) + "</tr>"
                for tag, row in lines
            ]
            body.append("<table>" + "".join(rows) + "</table>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>{''.join(body)}</html>\n"
    )
