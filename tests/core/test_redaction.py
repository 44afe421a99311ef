"""No password is shown, whatever characters it has."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.core.redaction import redact, redact_command, redact_logs

_SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=4).filter(
    lambda text: text not in "postgresql+psycopg://mlflow:db.example.org:5432/studies failed 'ssl' Cannot reach=***"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:hunter2@host:5000/x", "http://host:5000/x"),
        ("postgresql+psycopg2://u:p%40@db/m failed", "postgresql+psycopg2://db/m failed"),
        ("url='https://token@h' and http://a:b@c", "url='https://h' and http://c"),
        ("postgresql://mlflow:a/b@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://mlflow:a@b@db/mlflow", "postgresql://db/mlflow"),
        ("'postgresql://mlflow:it's@db/mlflow'", "'postgresql://db/mlflow'"),
        (
            "postgresql://db/m?user=u&password=a'b@c&sslmode=require failed",
            "postgresql://db/m?*** failed",
        ),
        ("connection failed: host=db password=a/b user=u", "connection failed: host=db password=*** user=u"),
        ("https://bucket/key?X-Amz-Signature=abc&versionId=1", "https://bucket/key?***"),
        (
            "https://store.blob.core.windows.net/c?sv=1&sig=a%2Fb&sr=c",
            "https://store.blob.core.windows.net/c?***",
        ),
        ("/data/https:/ann:hunter2@host/x failed", "/data/https:/host/x failed"),
        ("https:/hunter2@host/x", "https:/host/x"),
        ("postgresql:/ann:hunter2@host/x", "postgresql:/host/x"),
        (
            "Max retries exceeded with url: /api/runs?key=hunter2 (Caused",
            "Max retries exceeded with url: /api/runs?*** (Caused",
        ),
        ("Authorization: Bearer eyJhbGciOi.x-y", "Authorization: ***"),
        ("401 for hf_abcdefghijklmnopqrstuvwxyz", "401 for ***"),
        ("Is http://host:5000 up? yes", "Is http://host:5000 up? yes"),
        ("http://host:5000 mail ann@example.org", "http://host:5000 mail ann@example.org"),
        ("models:/emotions@champion on http://host/path", "models:/emotions@champion on http://host/path"),
        ("sqlite:////tmp/a@b.db", "sqlite:////tmp/a@b.db"),
        ("eval_batch_tokens=4096 tokenizer=x", "eval_batch_tokens=4096 tokenizer=x"),
    ],
)
def test_secrets_go_and_the_rest_stays(text, shown):
    assert redact(text) == shown


@given(_SECRETS)
def test_no_password_without_spaces_is_left(password):
    address = f"postgresql+psycopg://mlflow:{password}@db.example.org:5432/studies"
    assert redact(address) == "postgresql+psycopg://db.example.org:5432/studies"
    assert password not in redact(f"Cannot reach '{address}' (ssl failed)")
    assert password not in redact_command(["tune", f"--storage={address}"])


@given(_SECRETS.filter(lambda text: "&" not in text))
def test_no_password_in_a_query_is_left(password):
    assert password not in redact(f"postgresql://db.example.org/studies?password={password}&sslmode=require")


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["train", "--hub-token", "hf_abc", "--loss", "asl"], "train --hub-token '***' --loss asl"),
        (["train", "--api_key=abc"], "train '--api_key=***'"),
        (["train", "--password", "-x-", "--seed", "1"], "train --password '***' --seed 1"),
        (["train", "--tokenizer", "path", "--max-tokens", "5"], "train --tokenizer path --max-tokens 5"),
        (["tune", "--storage", "postgresql://u:p@db/x"], "tune --storage postgresql://db/x"),
    ],
)
def test_values_of_flags_named_as_secrets_are_masked(argv, shown):
    assert redact_command(argv) == shown


def test_logs_of_libraries_have_no_secrets(caplog, monkeypatch):
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)  # restored afterwards
    redact_logs()
    logging.getLogger("a.library").warning("Cannot reach %s in %d seconds", "http://ann:hunter2@host", 3)
    logging.getLogger("a.library").warning("%d of %d", 1, 2)
    assert [record.getMessage() for record in caplog.records] == ["Cannot reach http://host in 3 seconds", "1 of 2"]
    assert caplog.records[1].args == (1, 2)
