"""HTTP of the health page, and the webhook that the tracking server calls."""

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trainer.core.http_body import read_body
from trainer.core.webhooks import is_genuine

if TYPE_CHECKING:
    from starlette.requests import Request

    from trainer.service.health.notices import Announcer, Poster
    from trainer.service.health.watch import Watched

__all__ = ["make_app"]

_MAX_WEBHOOK = 10**6
_TEMPLATE = Path(__file__).with_name("status.html.j2")
_RANK = {"ok": 0, "warning": 1, "dead": 2}


def make_app(
    parts: "Mapping[str, Watched]", announcer: "Announcer", poster: "Poster", *, prefix: str, webhook_secret: str
) -> Starlette:
    """Return the application. prefix: path in front of everything."""
    handlers = _Handlers(parts, announcer, poster, f"{prefix}/status", webhook_secret)
    return Starlette(
        routes=[
            Route(f"{prefix}/status", handlers.show_status),
            Route(f"{prefix}/status/metrics", handlers.show_metrics),
            Route("/webhook", handlers.take_webhook, methods=["POST"]),
        ]
    )


class _Handlers:
    def __init__(
        self, parts: "Mapping[str, Watched]", announcer: "Announcer", poster: "Poster", path: str, secret: str
    ) -> None:
        self._parts, self._announcer, self._poster, self._path, self._secret = parts, announcer, poster, path, secret
        loaded = jinja2.Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
        self._template = loaded

    async def show_status(self, request: "Request") -> Response:
        """Return the page, or JSON with `?format=json`; 503 when a part is dead."""
        content = self._content()
        code = 503 if content["status"] == "dead" else 200
        if request.query_params.get("format") == "json":
            return JSONResponse(content, code)
        return HTMLResponse(self._template.render(content, path=self._path), code)

    async def show_metrics(self, _: "Request") -> Response:
        """Return the same in Prometheus's text format."""
        registry = CollectorRegistry()
        state = Gauge("service_part_state", "0 ok, 1 warning, 2 dead.", ["part"], registry=registry)
        for name, part in self._parts.items():
            result = part.result
            state.labels(name).set(_RANK[result.state])
            for metric, value in result.numbers.items():
                Gauge(metric, f"Of {name}.", registry=registry).set(value)
        notices = Gauge("service_notices", "Notices since the start.", ["result"], registry=registry)
        notices.labels("sent").set(self._poster.sent)
        notices.labels("lost").set(self._poster.lost)
        return PlainTextResponse(generate_latest(registry).decode())

    async def take_webhook(self, request: "Request") -> Response:
        """Announce what a webhook of the tracking server says."""
        body = await read_body(request, _MAX_WEBHOOK)
        if not is_genuine(request.headers, body, secret=self._secret, now=time.time()):
            return PlainTextResponse("The signature or the time of this webhook is wrong.\n", 401)
        try:
            self._announcer.take(json.loads(body), time.monotonic())
        except (KeyError, TypeError, ValueError) as error:
            return PlainTextResponse(f"This event cannot be read ({type(error).__name__}).\n", 400)
        return Response(status_code=202)

    def _content(self) -> dict[str, Any]:
        results = {name: part.result for name, part in self._parts.items()}
        worst = max((result.state for result in results.values()), key=_RANK.__getitem__)
        return {
            "status": worst,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "parts": [
                {"name": name, "state": result.state, "text": result.text, **result.numbers}
                for name, result in results.items()
            ],
        }
