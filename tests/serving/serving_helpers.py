"""A tiny saved classifier, saved models of it, and the scoring server that MLflow starts on one."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from trainer.evaluation.calibration import Calibration
from trainer.model import saving
from trainer.model.classifier import EmotionClassifier
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder
from trainer.serving import packaging
from trainer.serving.scoring import Member

NAMES = ("joy", "grief", "surprise (good)")
WORDS = ["[PAD]", "[UNK]", "so", "proud", "of", "you", "i", "miss", "her"]
TEXTS = ["so proud of you", "i miss her so", "her", "of of of of of of of of of of", "you i miss"]
CALIBRATION = Calibration(temperature=1.7, bias=-0.4)
MAX_LENGTH = 8
PER_LABEL = np.array([0.2, 0.9, 0.5])


def make_classifier(root):
    """Folder of a tiny saved classifier whose answers differ between texts."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.TokenizersBackend(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
    config = transformers.DebertaV2Config(
        vocab_size=9,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        type_vocab_size=0,
    )
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(root / "encoder")
    tokenizer.save_pretrained(root / "encoder")
    encoder, tokenizer = load_encoder(ModelConfig(model=str(root / "encoder")))
    model = EmotionClassifier(encoder, len(NAMES), pooling="mean", dropout=0.1)
    torch.nn.init.normal_(model.head.weight)
    saving.save(model, tokenizer, root / "classifier", NAMES, {})
    return root / "classifier"


def write_model(folder, classifier, **changes):
    """A saved model of the classifier at `folder`, some of its facts changed."""
    member = Member(classifier=classifier, calibration=changes.pop("calibration", CALIBRATION), max_length=MAX_LENGTH)
    thresholds = {"fixed": np.full(3, 0.5), "per_label": PER_LABEL}
    facts = {"members": [member], "thresholds": thresholds, "default_policy": "per_label"}
    packaging.save_model(folder, **{**facts, **changes})
    return folder


def load(folder, **config):
    """The saved model as MLflow loads it, pickle forbidden; config: its model_config."""
    import mlflow.pyfunc
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        return mlflow.pyfunc.load_model(str(folder), model_config=config or None)


def expected_probabilities(classifier, texts):
    """Probabilities (n, k), each text scored alone."""
    model, tokenizer, _ = saving.load(classifier)
    rows = []
    with torch.inference_mode():
        for text in texts:
            batch = tokenizer([text], return_tensors="pt", truncation=True, max_length=MAX_LENGTH)
            rows.append(model(batch["input_ids"], batch["attention_mask"])[0].numpy())
    return CALIBRATION.probabilities(np.stack(rows))


class ScoringServer:
    """`mlflow models serve` on a saved model, in a process group of its own."""

    def __init__(self, model, folder, port, **environment):
        self.port, self.log = port, folder / "server.log"
        mlflow = Path(sys.executable).with_name("mlflow")
        path = os.pathsep.join([str(mlflow.parent), os.environ["PATH"]])
        words = ("models", "serve", "-m", str(model), "--env-manager", "local", "-p", str(port))
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [mlflow, *words],
                cwd=folder,
                env=os.environ | {"PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"} | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds):
        """Wait until it answers."""
        end = time.monotonic() + seconds
        while True:
            try:
                status, _ = self.call("GET", "/ping")
            except OSError:
                status = 0
            if status == 200:
                return
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"server must answer, but got {self.process.poll()=}: {self.log.read_text()}")
            time.sleep(0.2)

    def call(self, method, path, body=None, headers=None, timeout=60):
        """Status and content of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(self, body, kind="application/json"):
        """Status and content of /invocations. body: bytes, or what becomes JSON; kind: content type, None for none."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", "/invocations", content, {"Content-Type": kind} if kind else {})

    def stop(self):
        """End it, and the worker that it started."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
