"""Says why the first contact with a tracking server fails, and what to do."""

import os
import re
import shlex
from urllib.parse import urlsplit

from trainer.core.errors import shorten
from trainer.core.redaction import redact
from trainer.tracking.delivery_errors import http_status, short_reason
from trainer.tracking.refusals import LOGIN_VARIABLES, explain_host

__all__ = ["CA_VARIABLE", "explain_failure"]

_Explanation = tuple[str, str]
"""Why, without secrets, and a sentence with what to do."""

CA_VARIABLE = "MLFLOW_TRACKING_SERVER_CERT_PATH"
_OTHER_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Read by requests where CA_VARIABLE is not set."""
_LOGIN = " and ".join(LOGIN_VARIABLES)
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+(/.*)?")
_MOST_FILE_CHARACTERS = 40
_START = "Start it (`make service`, `mlflow server`), correct MLFLOW_TRACKING_URI, or unset it to keep runs in a file."
_CORRECT_PROXY = "Correct HTTPS_PROXY (HTTP_PROXY for http://), or add the server's host to NO_PROXY."

# A pattern of the error's text, the reason, the advice. The first one that is found decides.
_TEXTS = (
    ("certificate has expired", "its certificate has expired", "Give the server a new one."),
    ("certificate is not yet valid", "its certificate is not valid yet", "Correct the clock of this machine."),
    (
        "certificate is not valid for",
        "its certificate is for another host name",
        "Write a name of the certificate into MLFLOW_TRACKING_URI, or give the server a certificate with this name.",
    ),
    (
        "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE",
        "this port speaks no TLS",
        "Correct the port of MLFLOW_TRACKING_URI, or write http:// there.",
    ),
    (
        "plain HTTP request was sent to HTTPS|RemoteDisconnected|reset by peer",
        "it ends the connection without an answer",
        "Write https:// in MLFLOW_TRACKING_URI if the server speaks TLS, else correct the port.",
    ),
    (
        "Tunnel connection failed: 407|error code 407",
        "the proxy asks for user and password (407)",
        "Set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, or add the server's host to NO_PROXY.",
    ),
    ("ProxyError|to connect to proxy", "the proxy is away or cannot reach the server", _CORRECT_PROXY),
    (
        "NameResolution|Name or service not known|getaddrinfo",
        "its host name is unknown",
        "Correct MLFLOW_TRACKING_URI.",
    ),
    ("Connection refused", "connection refused", _START),
    (
        "too many 50[234] error|error code 50[234]",
        "a proxy answers, but the server behind it does not",
        "Start that server, or ask who runs it.",
    ),
    (
        "in header value|codec can't encode",
        "it cannot be sent as a header",
        "MLFLOW_TRACKING_TOKEN must be ASCII text without spaces and line breaks around it.",
    ),
)


def explain_failure(uri: str, error: Exception) -> _Explanation:
    """Return why a tracking server gave no answer, in a few words without secrets, and what to do."""
    text = str(error)
    found = explain_host(text) or _explain_address(uri, text) or _explain_certificate(text) or _explain_text(text)
    return found or _explain_answer(uri, http_status(error), text) or (short_reason(error), _START)


def _explain_text(text: str) -> _Explanation | None:
    return next(((reason, advice) for pattern, reason, advice in _TEXTS if re.search(pattern, text)), None)


def _explain_address(uri: str, text: str) -> _Explanation | None:
    if _HOST_AND_PORT.fullmatch(uri):
        return "it has no scheme", f"Set MLFLOW_TRACKING_URI=http://{uri}."
    if uri.startswith("postgres:"):
        return "its scheme is unknown", "Write postgresql:// in place of postgres://."
    if "unsupported URI" in text:
        advice = "Set MLFLOW_TRACKING_URI to http://HOST:PORT, or to a database as mlflow server takes it."
        return "its scheme is unknown", advice
    if "Invalid url" not in text:
        return None
    if _is_valid(uri):
        return "the address of the proxy is no URL", _CORRECT_PROXY
    return "it is no URL", f"Set MLFLOW_TRACKING_URI=https://HOST:PORT, and {_LOGIN}."


def _is_valid(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return bool(parts.hostname) and parts.port != 0  # asking for the port checks it
    except ValueError:
        return False


def _explain_certificate(text: str) -> _Explanation | None:
    """What is wrong with the file of certificates that this machine trusts."""
    variable = next((name for name in (CA_VARIABLE, *_OTHER_CA_VARIABLES) if os.environ.get(name)), CA_VARIABLE)
    file = shorten(redact(os.environ.get(variable, "")), _MOST_FILE_CHARACTERS)
    if "CA certificate bundle, invalid path" in text:
        return f"{variable} names no file, got {file}", "Correct the path."
    if re.search("NO_CERTIFICATE_OR_CRL_FOUND|PEM lib", text):
        return f"{variable} names a file without certificates, got {file}", "Name one in PEM, such as ca.crt."
    if "ignore_tls_verification" in text:
        return "two variables contradict each other", f"Unset MLFLOW_TRACKING_INSECURE_TLS or {CA_VARIABLE}."
    if "CERTIFICATE_VERIFY_FAILED" not in text or re.search("expired|not yet valid|not valid for", text):
        return None
    reason = "no known authority has signed its certificate"
    advice = f"Set {CA_VARIABLE} to the file of its authority, such as ca.crt."
    return (f"{reason}; {variable} names {file}" if file else reason), advice


def _explain_answer(uri: str, status: int | None, text: str) -> _Explanation | None:
    if "db upgrade" in text:
        command = f"mlflow db upgrade {shlex.quote(redact(uri))}"
        return "its tables are of another MLflow", f"Make a backup, then run `{command}`."
    if status == 404 or "valid JSON" in text or "<html" in text.lower():  # a proxy refuses with pages
        advice = "Correct MLFLOW_TRACKING_URI; the path in front of the server, such as /mlflow, belongs to it."
        return "what answers there is no MLflow server", advice
    if status == 401:
        return "401: wrong or no credentials", _login_advice(uri)
    if status == 403:
        return "403: no permission", "Ask an admin of the server for a role, or give other credentials."
    return None


def _login_advice(uri: str) -> str:
    from requests.utils import get_netrc_auth

    if get_netrc_auth(uri) is not None:  # requests replaces the header that MLflow sets
        return f"The entry for this host in .netrc comes before {_LOGIN}: correct or remove it."
    if all(os.environ.get(name) for name in LOGIN_VARIABLES):
        return f"Correct {_LOGIN}."
    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return f"Correct MLFLOW_TRACKING_TOKEN, or set {_LOGIN}: MLflow's own accounts have no tokens."
    return f"Set {_LOGIN}, or MLFLOW_TRACKING_TOKEN."
