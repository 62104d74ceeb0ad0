"""The page: one HTML file that loads nothing."""

from __future__ import annotations

import os
import traceback
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePath
from typing import TypeAlias

from numcore.algorithms.tour._stop import Block, Code, Picture, Pictures, Table, Text

__all__ = ["Outcome", "page", "write"]

Fact: TypeAlias = tuple[str, str]


@dataclass(frozen=True)
class Outcome:
    """What became of a stop: its blocks, or what it raised."""

    name: str
    title: str
    seconds: float
    blocks: Sequence[Block] = ()
    failure: Exception | None = None


def page(outcomes: Sequence[Outcome], facts: Iterable[Fact]) -> str:
    """The HTML of a tour."""
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="color-scheme" content="light dark">\n<title>numcore tour</title>\n<style>{STYLE}</style>',
            "</head>\n<body>\n<header><h1>numcore tour</h1>",
            f"<p>{escape(_summary(outcomes))}</p></header>\n<main>",
            *map(_section, outcomes),
            f"</main>\n<footer><h2>What ran this</h2>\n<dl>{''.join(_facts(facts))}</dl></footer>\n</body>\n</html>\n",
        )
    )


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _summary(outcomes: Sequence[Outcome]) -> str:
    text = (
        "Each family of algorithms on real data, computed on this machine when the page was made, with timings beside"
        " what one would have used instead."
    )
    failed = [outcome.name for outcome in outcomes if outcome.failure is not None]
    return text + (f" Failed: {', '.join(failed)}; see below." if failed else "")


def _section(outcome: Outcome) -> str:
    if outcome.failure is None:
        body = "\n".join(map(_block, outcome.blocks))
    else:
        body = f'<p class="failed">This stop failed.</p>\n<pre>{escape("".join(_trace(outcome.failure)))}</pre>'
    return (
        f'<section id="{escape(outcome.name)}">\n<p class="name">{escape(outcome.name)} · {outcome.seconds:.0f} s</p>'
        f"\n<h2>{escape(outcome.title)}</h2>\n{body}\n</section>"
    )


def _trace(failure: Exception) -> Iterator[str]:
    """The traceback, its file names cut down to where they say nothing of the user's folders."""
    whole = traceback.TracebackException.from_exception(failure)
    trace: traceback.TracebackException | None = whole
    while trace is not None:
        for frame in trace.stack:
            _ = frame.line  # read the source while the name is whole
            frame.filename = "/".join(PurePath(frame.filename).parts[-3:])
        trace = trace.__cause__ or trace.__context__
    return whole.format()


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return "\n".join(f"<p>{escape(paragraph.strip())}</p>" for paragraph in text.split("\n\n"))
        case Code(source):
            return f"<pre>{escape(source)}</pre>"
        case Pictures(pictures):
            return f'<div class="row">{"".join(map(_picture, pictures))}</div>'
        case Table():
            return _table(block)


def _picture(picture: Picture) -> str:
    data = b64encode(picture.data).decode("ascii")
    return (
        f'<figure><img src="data:{picture.media_type};base64,{data}" alt="{escape(picture.alt)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in table.heads)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in table.rows
    )
    return (
        f'<figure class="table"><figcaption>{escape(table.caption)}</figcaption>\n<div class="wide"><table>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div></figure>"
    )


def _facts(facts: Iterable[Fact]) -> Iterator[str]:
    for name, value in facts:
        yield f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


STYLE = """
:root { --ink: #1c1d20; --soft: #63666d; --line: #dddbd5; --ground: #fcfbf8; --box: #f2f0ea; --bad: #a4262c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e4df; --soft: #9b9da3; --line: #3a3b40; --ground: #17181b; --box: #212226; --bad: #ff8a80; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.1rem 4rem; background: var(--ground); color: var(--ink);
  font: 1.08rem/1.6 Charter, "Bitstream Charter", "Source Serif 4", Cambria, Georgia, serif;
  -webkit-text-size-adjust: 100%; }
h1, h2, figcaption, table, dl, .name { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 2.2rem; line-height: 1.15; letter-spacing: -0.02em; margin: 0; }
h2 { font-size: 1.5rem; line-height: 1.25; letter-spacing: -0.01em; margin: 0 0 1rem; }
p { max-width: 40rem; margin: 0 0 1rem; }
header p { color: var(--soft); margin-top: 0.6rem; }
section { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1.6rem; }
.name { color: var(--soft); font-size: 0.85rem; margin: 0 0 0.2rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1.1rem;
  margin: 1.4rem 0; }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 4px; }
figcaption { color: var(--soft); font-size: 0.85rem; line-height: 1.4; margin-top: 0.45rem; }
pre { background: var(--box); border-radius: 6px; padding: 0.9rem 1rem; overflow-x: auto; max-width: 52rem;
  font: 0.88rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.table { margin: 1.4rem 0; }
.table figcaption { max-width: 44rem; margin: 0 0 0.6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; font-weight: inherit; padding: 0.4rem 0 0.4rem 1.4rem; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); vertical-align: bottom; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 0.5rem 1.4rem;
  font-size: 0.9rem; }
dt { color: var(--soft); font-size: 0.8rem; }
dd { margin: 0; }
footer { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1.6rem; }
.failed { color: var(--bad); font-weight: 600; }
"""
