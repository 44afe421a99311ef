"""Webhooks of MLflow are recognized, everything else is refused."""

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from trainer.core.webhooks import MAX_AGE_SECONDS, is_genuine

NOW, BODY, SECRET = 1_700_000_000, '{"entity": "model_version"}', "a secret"


def headers(secret=SECRET, time=str(NOW), body=BODY, delivery="one"):
    signature = _generate_hmac_signature(secret, delivery, time, body)
    return {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": time, "X-MLflow-Signature": signature}


def test_a_webhook_of_mlflow_is_genuine():
    assert is_genuine(headers(), BODY.encode(), secret=SECRET, now=NOW)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        headers(secret="another"),
        headers(body="{}"),
        headers() | {"X-MLflow-Delivery-Id": "two"},
        headers() | {"X-MLflow-Signature": ""},
        headers() | {"X-MLflow-Signature": "v1,\xe9\ud800"},
        headers() | {"X-MLflow-Timestamp": str(NOW + 1)},
        headers(time=str(NOW - MAX_AGE_SECONDS - 1)),
        headers(time=str(NOW + MAX_AGE_SECONDS + 1)),
        headers(time="²"),
        headers(time="-1"),
        headers(time="9" * 5000),
    ],
)
def test_anything_else_is_refused(sent):
    assert not is_genuine(sent, BODY.encode(), secret=SECRET, now=NOW)
