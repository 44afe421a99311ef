"""Dropout with cheaper random numbers on a CPU."""

import torch
from torch import Tensor, nn

__all__ = ["FastDropout", "use_fast_dropout"]

_STEPS = 1 << 16  # values of 16 random bits


class FastDropout(nn.Dropout):
    """Dropout that draws 16 random bits per value on a CPU, and nn.Dropout on other devices.

    PyTorch 2.13 draws the values of a CPU mask one by one, which takes an eighth of the training time of a small
    encoder. The probability is rounded to a multiple of 2^-16 and the scale follows the rounded one, so the mean is
    exact. The numbers come from torch's generator: a seed, or a restored state, repeats them.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Dropout's name
        """Return `input`; in training with a fraction p of its values set to 0 and the others scaled by 1 / (1 - p)."""
        dropped = round(self.p * _STEPS)
        if input.device.type != "cpu" or not self.training or not 0 < dropped < _STEPS:
            return super().forward(input)
        count = input.numel()
        # One random number of 64 bits serves four values.
        bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        draws = bits.view(torch.int16)[:count].view(input.shape)
        kept = draws >= dropped - _STEPS // 2  # int16 has a sign: its lowest value is -2^15
        return input * kept.to(input.dtype).mul_(_STEPS / (_STEPS - dropped))


def use_fast_dropout(model: nn.Module) -> None:
    """Replace every nn.Dropout below `model` by FastDropout. State dicts stay the same."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:  # a subclass may compute otherwise
                fast = FastDropout(child.p, child.inplace)
                setattr(module, name, fast.train(child.training))
