"""HTTP of the served champion: MLflow's scoring protocol, the webhook, health and metrics."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from trainer.core.http_body import read_body
from trainer.core.webhooks import is_genuine

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry.serving.champion import Champion, Served
    from registry.serving.login import Login
    from registry.serving.metrics import Metrics

__all__ = ["Limits", "make_app"]

_MAX_WEBHOOK = 65536
_VERSION_HEADER = "X-Model-Version"
_JSON = "application/json"
_REALM = 'Basic realm="mlflow"'


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may take."""

    body_bytes: int
    seconds: float


def make_app(
    champion: "Champion", metrics: "Metrics", *, limits: Limits, webhook_secret: str = "", login: "Login | None" = None
) -> Starlette:
    """Return the application. webhook_secret: that of the webhook; empty: there is no webhook."""
    handlers = _Handlers(champion, metrics, limits, webhook_secret, login)
    routes = [
        Route("/invocations", handlers.invoke, methods=["POST"]),
        Route("/ping", handlers.ping),
        Route("/version", handlers.show_mlflow_version),
        Route("/health", handlers.show_health),
        Route("/metrics", handlers.show_metrics),
    ]
    if webhook_secret:
        routes.append(Route("/webhook", handlers.take_webhook, methods=["POST"]))
    return Starlette(routes=routes)


class _Handlers:
    def __init__(
        self, champion: "Champion", metrics: "Metrics", limits: Limits, webhook_secret: str, login: "Login | None"
    ) -> None:
        self._champion, self._metrics, self._limits = champion, metrics, limits
        self._secret, self._login = webhook_secret, login

    async def invoke(self, request: "Request") -> Response:
        """Score the texts of a request in one of MLflow's forms."""
        began = time.monotonic()
        response = await self._refusal(request) or await self._invoke(request)
        self._metrics.count_request(response.status_code, time.monotonic() - began)
        return response

    async def _refusal(self, request: "Request") -> Response | None:
        """Return the answer to a client without a login; None for one that may go on."""
        if self._login is None:
            return None
        answer = await asyncio.to_thread(self._login.check, request.headers.get("authorization", ""))
        if answer == "refused":
            return _error(401, "Log in with an account of the tracking server.", {"WWW-Authenticate": _REALM})
        if answer == "unknown":
            return _error(503, "The tracking server, which knows the accounts, does not answer.", {"Retry-After": "10"})
        return None

    async def _invoke(self, request: "Request") -> Response:
        served = self._champion.served  # the request keeps this version, whatever is swapped meanwhile
        if served is None:
            return self._unavailable()
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await read_body(request, self._limits.body_bytes)
                kind = request.headers.get("content-type", "")
                response = await asyncio.to_thread(_score, body, kind, served)
        except HTTPException as refusal:  # of a large body
            return _error(refusal.status_code, refusal.detail, refusal.headers)
        except TimeoutError:
            return _error(504, f"The request took more than {self._limits.seconds:g} seconds. Send fewer texts.")
        response.headers[_VERSION_HEADER] = f"{self._champion.name}/{served.version}"
        return response

    def _unavailable(self) -> Response:
        return _error(503, self._champion.problem, {"Retry-After": "10"})

    async def ping(self, _: "Request") -> Response:
        """Answer as MLflow's scoring server: 200 when a model is loaded."""
        return Response("\n", 200 if self._champion.served else 503, media_type=_JSON)

    async def show_mlflow_version(self, _: "Request") -> Response:
        from mlflow.version import VERSION

        return Response(VERSION, media_type=_JSON)

    async def show_health(self, _: "Request") -> Response:
        """Return the version and, when it is not that of the alias, why; 503 when nothing is served."""
        served, problem = self._champion.served, self._champion.problem
        status = "waiting" if served is None else "degraded" if problem else "ok"
        content: dict[str, Any] = {
            "status": status,
            "model": self._champion.name,
            "alias": self._champion.alias,
            "version": served and served.version,
            "loaded_at": served and served.loaded_at.isoformat(timespec="seconds"),
            "problem": problem,
        }
        return JSONResponse(content, 503 if served is None else 200)

    async def show_metrics(self, _: "Request") -> Response:
        return PlainTextResponse(self._metrics.text(self._champion))

    async def take_webhook(self, request: "Request") -> Response:
        """Look at the alias now when the tracking server says that it has moved."""
        body = await read_body(request, _MAX_WEBHOOK)
        if not is_genuine(request.headers, body, secret=self._secret, now=time.time()):
            return _error(401, "The signature or the time of this webhook is wrong.")
        self._champion.wake()
        return Response(status_code=202)


def _score(body: bytes, content_type: str, served: "Served") -> Response:
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    invocations: Any = scoring_server.invocations  # MLflow has no types here
    try:
        result = invocations(body, content_type, served.model, served.model.metadata.get_input_schema())
    except MlflowException as error:
        refusal: Any = error
        refusal.json_kwargs.pop("stack_trace", None)  # MLflow would send it to the client
        return Response(refusal.serialize_as_json(), refusal.get_http_status_code(), media_type=_JSON)
    return Response(result.response, result.status, media_type=result.mimetype)


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error_code": status, "message": message}, status, headers)
