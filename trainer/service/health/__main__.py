"""Serve the health page and send notices.

`python -m trainer.service.health --secrets DIR --database HOST:PORT --s3 HOST:PORT --tracking HOST:PORT --folder DIR`
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import uvicorn

from trainer.core.errors import EmotionsError
from trainer.service import connections, secrets
from trainer.service.health import checks
from trainer.service.health.app import make_app
from trainer.service.health.notices import Announcer, Poster
from trainer.service.health.watch import Watched, watch
from trainer.service.settings import ServiceSettings

_TICK_SECONDS = 1.0
NOTICE_URL = "notice_url"


def main() -> int:
    """Serve until a stop signal; 1 after an error."""
    given = _parser().parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    try:
        settings = ServiceSettings.read()
        parts = _parts(given, settings)
        webhook_secret = secrets.read(given.secrets, "webhook_secret")
        url = secrets.read(given.secrets, NOTICE_URL) if (given.secrets / NOTICE_URL).exists() else ""
    except EmotionsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    poster, announcer = Poster(url), Announcer(settings.model, settings.url)
    _start(watch, parts, poster.say, host=settings.hosts[0])
    _start(_announce, announcer, poster)
    app = make_app(parts, announcer, poster, prefix=settings.prefix, webhook_secret=webhook_secret)
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning", access_log=False, lifespan="off")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.service.health", description=main.__doc__)
    connections.add_arguments(parser)
    parser.add_argument("--tracking", required=True, help="HOST:PORT of the MLflow server")
    parser.add_argument("--serve", default="", help="HOST:PORT of the served champion, if there is one")
    parser.add_argument("--backups", type=Path, required=True, help="folder of the backups")
    parser.add_argument("--disk", type=Path, action="append", required=True, help="folder whose disk is watched")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True)
    return parser


def _parts(given: argparse.Namespace, settings: ServiceSettings) -> Mapping[str, Watched]:
    stores = connections.open_stores(given.secrets, given.database, given.s3)
    began = (given.secrets / "webhook_secret").stat().st_mtime  # written once, at the first start
    wanted: dict[str, checks.Check] = {
        "database": partial(checks.database, stores),
        "object store": partial(checks.object_store, stores),
        "server": partial(checks.tracking, f"http://{given.tracking}{settings.prefix}"),
        "disk": partial(checks.disk, given.disk, settings.disk_free),
        "backups": partial(checks.backups, given.backups, settings.backup_hours, began),
    }
    if given.serve and settings.serve:
        wanted["served champion"] = partial(checks.served_champion, f"http://{given.serve}")
    return {name: Watched(name, check) for name, check in wanted.items()}


def _announce(announcer: Announcer, poster: Poster) -> None:
    while True:
        time.sleep(_TICK_SECONDS)
        for text in announcer.due(time.monotonic()):
            poster.say(text)


def _start(function: object, *arguments: object, **options: object) -> None:
    threading.Thread(target=function, args=arguments, kwargs=options, daemon=True).start()  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
