"""Known networks that cannot run here, recognised by the names of their tensors.

A user who passes such a file is told what it is, not which tensors are missing.
"""

import re
from collections.abc import Iterable

_ATTENTION = "it uses attention, which is not a convolution"
_GATES = "its layers multiply feature maps by each other"
_DISCRIMINATOR = "a discriminator classifies images, it does not upscale"

# (name, why it is not supported, patterns that must all match the beginning of some tensor's name). The first entry
# that matches applies, so more specific ones come first.
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
    ("SwiftSRGAN", "its convolutions are depthwise separable", (r"initial\.cnn\.depthwise\.",)),
    ("GFPGAN", "it restores faces with a StyleGAN decoder", (r"stylegan_decoder",)),
    ("CodeFormer or RestoreFormer", "it restores faces with a codebook", (r"(quantize|generator\.blocks)\.",)),
    ("a U-Net discriminator (Real-ESRGAN)", _DISCRIMINATOR, (r"conv\d\.weight_orig",)),
    ("a VGG-style discriminator (BasicSR)", _DISCRIMINATOR, (r"conv0_1\.", r"linear1\.")),
    ("a discriminator (ESRGAN)", _DISCRIMINATOR, (r"features\.\d+\.", r"classifier\.", r"features\.\d+\.running_mean")),
    ("a VGG", "it classifies images, it does not upscale", (r"features\.\d+\.", r"classifier\.")),
    ("a discriminator", _DISCRIMINATOR, (r"(discriminator|net_?d|critic)\.",)),
    ("a discriminator of this project", _DISCRIMINATOR, (r"trunk\.conv8\.", r"(head|dense1)\.")),
    ("a discriminator (SRGAN)", _DISCRIMINATOR, (r"(net|model|features)\.\d+\.", r"(fc\d?|dense|linear|classifier)\b")),
)  # fmt: skip


def name_unsupported(names: Iterable[str]) -> str | None:
    """Name of a network that no architecture supports and the reason, in words; None if it is unknown."""
    names = list(names)
    for name, why, patterns in _KNOWN:
        if all(any(re.match(pattern, found, re.IGNORECASE) for found in names) for pattern in patterns):
            return f"{name}; {why}"
    return None
