"""Small saved models, and a server that runs in this process."""

import http.client
import json
import socket
import threading
import time

import numpy as np
import torch
import uvicorn

from registry.config import ServeConfig
from registry.serving.app import Limits, make_app
from registry.serving.champion import Champion
from registry.serving.loading import load_version
from registry.serving.metrics import Metrics
from trainer.evaluation.calibration import Calibration
from trainer.model import saving
from trainer.model.classifier import EmotionClassifier
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder
from trainer.reporting import console
from trainer.serving import packaging
from trainer.serving.scoring import Member

NAMES = ("joy", "grief", "surprise (good)")
SECRET = "shared with the tracking server"
LIMITS = Limits(body_bytes=10_000, seconds=30)


def save(folder, temperature):
    """A saved model of untrained weights."""
    encoder, tokenizer = load_encoder(ModelConfig())
    torch.manual_seed(0)
    model = EmotionClassifier(encoder, len(NAMES), pooling="mean", dropout=0.1)
    torch.nn.init.normal_(model.head.weight, std=0.2)
    saving.save(model, tokenizer, folder / "classifier", NAMES, {})
    packaging.save_model(
        folder / "model",
        [Member(classifier=folder / "classifier", calibration=Calibration(temperature=temperature), max_length=32)],
        thresholds={"fixed": np.full(3, 0.5), "per_label": np.array([0.2, 0.9, 0.5])},
        default_policy="per_label",
    )
    return folder / "model"


def champion(load=load_version, **settings):
    """The champion of `emotions`, not watched yet."""
    return Champion(ServeConfig(**settings), console.make(quiet=True), load)


class RunningServer:
    """The application behind uvicorn on a free port, for one `with` block."""

    def __init__(self, champion, *, limits=LIMITS, secret=SECRET):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        app = make_app(champion, Metrics(), limits=limits, webhook_secret=secret)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],))

    def __enter__(self):
        self._thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self._thread.join()
        self._socket.close()

    def call(self, method, path, body=None, headers=None, connection=None):
        """Status, headers and body of the answer."""
        own = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            own.request(method, path, body, headers or {})
            answer = own.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            if connection is None:
                own.close()

    def score(self, content, connection=None):
        """The same of a request to score."""
        headers = {"Content-Type": "application/json"}
        return self.call("POST", "/invocations", json.dumps(content), headers, connection)
