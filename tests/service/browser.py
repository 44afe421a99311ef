"""MLflow's page in headless Chromium, through TLS and login."""

import base64
import contextlib
import hashlib
import json
import re
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import sync_playwright

_CHROMIUM = "/usr/bin/chromium"  # of Debian: Playwright's own browsers are not downloaded
_QUIET_SECONDS, _STEP_SECONDS, _LIMIT_SECONDS = 0.9, 0.3, 60
_ANIMATED_SECONDS = 20  # some pages never stop
# Placeholders of what loads are animated; the button of MLflow's assistant is too.
_IS_ANIMATED = """() => document.getAnimations().some(one =>
    one.effect.getComputedTiming().iterations === Infinity && !one.effect.target.closest('[data-assistant-ui]'))"""
# Of MLflow itself: the first with any data, the second where the server sends no telemetry.
_NOT_OURS = re.compile("ResizeObserver loop|telemetry-worker")


class Browser:
    """One tab, logged in to a tracking server."""

    def __init__(self, page, url):
        self.page, self._url = page, url
        self.errors = []
        """What the console reported as errors, with the place on the page."""
        self._open_requests = set()
        page.on("console", lambda message: self._report(message.text, message.type))
        page.on("pageerror", lambda error: self._report(str(error), "error"))
        page.on("request", self._begin)
        page.on("requestfinished", self._end)
        page.on("requestfailed", self._end)

    def open(self, place=""):
        """Open a place such as "#/models" and wait until the page has loaded what it shows; return its text."""
        self.page.goto(f"{self._url}/{place}")
        return self.settle()

    def follow(self, text):
        """Open a link of a description, which MLflow opens in a new tab; return the text of its page."""
        target = self.page.get_by_role("link", name=text, exact=True).first.get_attribute("href")
        return self.open(target)

    def settle(self):
        """Wait until the page has loaded nothing for a moment; return its text."""
        quiet = 0.0
        for _ in range(round(_LIMIT_SECONDS / _STEP_SECONDS)):
            self.page.wait_for_timeout(_STEP_SECONDS * 1000)
            quiet = 0.0 if self._open_requests else quiet + _STEP_SECONDS
            if quiet >= _QUIET_SECONDS and not (quiet < _ANIMATED_SECONDS and self.page.evaluate(_IS_ANIMATED)):
                break
        else:
            raise AssertionError(f"{self.page.url} still loads {[one.url for one in self._open_requests]}")
        return self.page.locator("body").inner_text()

    def _begin(self, request):
        if not _NOT_OURS.search(request.url):
            self._open_requests.add(request)

    def _end(self, request):
        self._open_requests.discard(request)

    def _report(self, text, kind):
        if kind == "error" and not _NOT_OURS.search(text):
            self.errors.append(f"{self.page.url}: {text}")


@contextlib.contextmanager
def open_browser(environment, size=(1280, 800)):
    """A browser for the server and the account of a client's environment variables.

    Chromium reads no CA from a file, so it is told to accept the key of the server's certificate, and no other.
    """
    certificate = Path(environment["MLFLOW_TRACKING_SERVER_CERT_PATH"]).with_name("server.crt")
    login = {"username": environment["MLFLOW_TRACKING_USERNAME"], "password": environment["MLFLOW_TRACKING_PASSWORD"]}
    arguments = ["--no-sandbox", f"--ignore-certificate-errors-spki-list={_key_digest(certificate)}"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=arguments)
        width, height = size
        context = chromium.new_context(viewport={"width": width, "height": height}, http_credentials=login)
        yield Browser(context.new_page(), environment["MLFLOW_TRACKING_URI"])
        chromium.close()


def run_place(run, rest=""):
    """The place of a run, or of something of it such as "artifacts/report.html"."""
    return f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/{rest}".rstrip("/")


def comparison_place(runs):
    """The place where MLflow compares these runs of one experiment."""
    ids, experiments = json.dumps([run.info.run_id for run in runs]), json.dumps([runs[0].info.experiment_id])
    return f"#/compare-runs?runs={quote(ids)}&experiments={quote(experiments)}"


def _key_digest(certificate):
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()
