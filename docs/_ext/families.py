"""Lists on the page ``families.md`` every family, a folder of ``algorithms/``, that has a page ``docs/<family>.md``."""

from pathlib import Path

DOCS = Path(__file__).parents[1]


def list_families(app, docname, source):
    if docname == "families":
        folders = sorted(path.parent.name for path in (DOCS.parent / "algorithms").glob("*/__init__.py"))
        pages = [name for name in folders if (DOCS / f"{name}.md").exists()]
        source[0] = source[0].replace("%families%", "\n".join(pages))


def always_again(app, env, added, changed, removed):
    return ["families"]  # the list may have changed though the page has not


def setup(app):
    app.connect("env-get-outdated", always_again)
    app.connect("source-read", list_families)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
