"""Networks that are not lists of convolutions, and what else lies beside generators, told by names of their tensors.

Whoever gives such a file learns what it is instead of what it lacks.
"""

import re
from collections.abc import Iterable

_ATTENTION = "its attention is no convolution"
_GATES = "its layers multiply maps by maps"
_CRITIC = "it judges images and makes none"

# (name, why it does not run here, patterns that must all match the beginning of some tensor's name); the first that
# fits counts, so those whose names hold another's come before it.
_KNOWN = (
    ("HAT", _ATTENTION, (r"layers\.\d+\.residual_group\.overlap_attn\.",)),
    ("ATD", _ATTENTION, (r"layers\.\d+\.residual_group\.td",)),
    ("Swin2SR", _ATTENTION, (r"layers\.\d+\.residual_group\.blocks\.\d+\.attn\.cpb_mlp\.",)),
    ("SwinIR", _ATTENTION, (r"layers\.\d+\.residual_group\.blocks\.\d+\.attn\.relative_position",)),
    ("DRCT", _ATTENTION, (r"layers\.\d+\.swin1\.",)),
    ("CRAFT", _ATTENTION, (r"layers\.\d+\.residual_group\.hf_blocks\.",)),
    ("RGT", _ATTENTION, (r"before_RG\.", r"layers\.\d+\.blocks\.\d+\.gamma")),
    ("DAT", _ATTENTION, (r"before_RG\.",)),
    ("GRL", _ATTENTION, (r"layers\.\d+\.blocks\.\d+\.attn\.stripe_attn\.",)),
    ("OmniSR", _ATTENTION, (r"residual_layer\.\d+\.residual_layer\.",)),
    ("DITN", _ATTENTION, (r"UFONE\.",)),
    ("DCTLSA", _ATTENTION, (r"B1\.body\.\d+\.transformer_body\.",)),
    ("IPT", _ATTENTION, (r"body\.encoder\.layers\.",)),
    ("SCUNet", _ATTENTION, (r"m_head\.", r"m_body\.\d+\.trans_block\.")),
    ("FDAT", _ATTENTION, (r"groups\.\d+\.blocks\.\d+\.attn\.",)),
    ("SPAN", _GATES, (r"block_1\.c1_r\.",)),
    ("PLKSR", _GATES, (r"feats\.\d+\.(lk|refine)\.",)),
    ("SAFMN", _GATES, (r"feats\.\d+\.safm\.",)),
    ("MoSR", _GATES, (r"gblocks\.",)),
    ("MoESR", _GATES, (r"in_to_dim\.", r"blocks\.\d+\.blocks\.")),
    ("NAFNet", _GATES, (r"intro\.", r"middle_blks\.")),
    ("SeemoRe", _GATES, (r"body\.\d+\.local_block\.",)),
    ("RCAN", _GATES, (r"body\.\d+\.body\.\d+\.body\.\d+\.conv_du\.",)),
    ("RealCUGAN", _GATES, (r"unet1\.",)),
    ("MM-RealSR", _GATES, (r"am_list\.", r"de_net\.")),
    ("SwiftSRGAN", "its convolutions are separable", (r"initial\.cnn\.depthwise\.",)),
    ("GFPGAN", "it restores faces by a StyleGAN decoder", (r"stylegan_decoder",)),
    ("CodeFormer or RestoreFormer", "it restores faces by a codebook", (r"(quantize|generator\.blocks)\.",)),
    ("a U-Net discriminator (Real-ESRGAN)", _CRITIC, (r"conv\d\.weight_orig",)),
    ("a VGG-style discriminator (BasicSR)", _CRITIC, (r"conv0_1\.", r"linear1\.")),
    ("a discriminator (ESRGAN)", _CRITIC, (r"features\.\d+\.", r"classifier\.", r"features\.\d+\.running_mean")),
    ("a VGG", "it classifies images and makes none", (r"features\.\d+\.", r"classifier\.")),
    ("a discriminator", _CRITIC, (r"(discriminator|net_?d|critic)\.",)),
    ("a discriminator of this project", _CRITIC, (r"trunk\.conv8\.", r"(head|dense1)\.")),
    ("a discriminator (SRGAN)", _CRITIC, (r"(net|model|features)\.\d+\.", r"(fc\d?|dense|linear|classifier)\b")),
)  # fmt: skip


def name_unsupported(names: Iterable[str]) -> str | None:
    """What a state dict is that no architecture takes, and why not, in words; None if it is unknown."""
    names = list(names)
    for name, why, patterns in _KNOWN:
        if all(any(re.match(pattern, found, re.IGNORECASE) for found in names) for pattern in patterns):
            return f"{name}; {why}"
    return None
