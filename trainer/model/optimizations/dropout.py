"""Dropout whose random numbers cost less on a CPU."""

import torch
from torch import Tensor, nn

__all__ = ["FastDropout", "use_fast_dropout"]

_STEPS = 1 << 16


class FastDropout(nn.Dropout):
    """Dropout that draws 16 random bits for each value on a CPU, and is nn.Dropout's own elsewhere.

    PyTorch 2.13 draws each value of a CPU mask alone, which takes an eighth of the training of a small encoder. The
    probability is rounded to a multiple of 2^-16 and the scale made for the rounded one, so the mean stays exact.
    The numbers come from torch's generator: a seed, or a restored state, repeats them.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Dropout's name
        """Return `input` with a share p of its values set to 0 and the others scaled by 1 / (1 - p), in training."""
        dropped = round(self.p * _STEPS)
        if input.device.type != "cpu" or not self.training or not 0 < dropped < _STEPS:
            return super().forward(input)
        count = input.numel()
        words = torch.empty(-(-count // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        draws = words.view(torch.int16)[:count].view(input.shape)
        kept = draws >= dropped - _STEPS // 2
        return input * kept.to(input.dtype).mul_(_STEPS / (_STEPS - dropped))


def use_fast_dropout(model: nn.Module) -> None:
    """Put FastDropout in place of every nn.Dropout below `model`, which leaves other models and saved weights alone."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                fast = FastDropout(child.p, child.inplace)
                setattr(module, name, fast.train(child.training))
