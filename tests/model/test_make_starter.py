from safetensors.torch import load_file

from trainer.core import artifacts
from trainer.model import make_starter
from trainer.model.config import ModelConfig
from trainer.model.encoder import load_encoder


def test_the_packed_encoder_loads_with_weights_in_half_precision(model_folders, tmp_path):
    encoder = tmp_path / "run" / artifacts.CLASSIFIER / "encoder"
    encoder.parent.mkdir(parents=True)
    encoder.symlink_to(model_folders["deberta-v3"])
    argv = ["--step", "pack", "--source", str(tmp_path / "run"), "--target", str(tmp_path / "starter")]
    assert make_starter.main(argv) == 0
    weights = load_file(tmp_path / "starter" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float16"}
    assert load_encoder(ModelConfig(model=str(tmp_path / "starter")))[0].config.model_type == "deberta-v2"


def test_a_missing_folder_is_named(capsys):
    assert make_starter.main(["--step", "pack", "--source", "runs/x"]) == 1
    assert "`target`" in capsys.readouterr().err
