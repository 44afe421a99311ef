"""The webhooks with which the tracking server tells the health page and the served champion of its model registry.

MLflow sends them from threads of its own: a receiver that is away or slow holds no command up.
"""

from typing import Any

from trainer.service.stores import Stores

__all__ = ["ENVIRONMENT", "make_webhooks"]

ENVIRONMENT = {
    # The receivers are this service's own, on its network. Only an admin may create a webhook.
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_REQUEST_TIMEOUT": "10",
}
"""Variables of a tracking server."""

_MOVES = (("model_version_alias", "created"), ("model_version_alias", "deleted"))
_DECISIONS = (("model_version", "created"),)
_RECEIVERS = {
    "notices": ("Tells a team of decisions about the champion.", (*_MOVES, *_DECISIONS)),
    "serve": ("Makes the served champion look at its alias.", _MOVES),
}


def make_webhooks(stores: Stores, addresses: dict[str, str], secret: str) -> None:
    """Make the webhooks of this service what they have to be, and leave those of others.

    addresses: HOST:PORT of `notices` and `serve`; without one, that webhook is removed. secret: signs them.
    The process has the environment of a tracking server.
    """
    from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    make_store: Any = SqlAlchemyStore
    store = make_store(stores.url())
    with stores.connect() as connection:  # MLflow itself cannot delete one whose secret has another key
        ours = "select webhook_id from webhooks where name = any(%s)"
        for table in ("webhook_events", "webhooks"):
            connection.execute(f"delete from {table} where webhook_id in ({ours})", [list(_RECEIVERS)])  # noqa: S608 - ours
    for name, address in addresses.items():
        description, wanted = _RECEIVERS[name]
        events = [WebhookEvent(WebhookEntity(entity), WebhookAction(action)) for entity, action in wanted]
        store.create_webhook(name, f"http://{address}/webhook", events, description, secret)
