"""The page at `/`: chat with what is served, compare two answers, look at every token."""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI
from fastapi.responses import Response

__all__ = ["add_page"]

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_OWN = ("page.css", "page.js", "answer.js", "pane.js", "peek.js", "server.js", "tokens.js", "icon.svg")
_SHARED = ("theme.css", "early.js")
"""What the page has in common with the report of a run."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI) -> None:
    """Add the page and its parts to a server. They hold no secret and are shown without a key."""
    own, shared = resources.files("fairlead.serve") / "web", resources.files("fairlead.report") / "templates"
    files = {"/": own / "index.html"}
    files |= {f"/page/{name}": own / name for name in _OWN} | {f"/page/{name}": shared / name for name in _SHARED}
    for path, file in files.items():
        kind = f"{_KINDS[file.name.rpartition('.')[2]]}; charset=utf-8"
        _add(app, path, file.read_text(encoding="utf-8"), kind)


def _add(app: FastAPI, path: str, text: str, kind: str) -> None:
    async def part() -> Response:
        return Response(text, media_type=kind, headers=_HEADERS)

    app.add_api_route(path, part, methods=["GET"], include_in_schema=False)
