"""Sharpness: a model between a faithful one and its sharp partner.

A shipped model names its partner in its metadata: `sharper` in the faithful one, `softer` in the sharp one.
"""

import math
from dataclasses import replace

from srgan_fast.errors import ModelError, UsageError
from srgan_fast.models.model_file import ModelFile, read_model
from srgan_fast.network.mixing import interpolate


def with_sharpness(model: ModelFile, sharpness: float) -> ModelFile:
    """The model between the pair that a model belongs to.

    Args:
        model: One of the pair.
        sharpness: 0 is the faithful model, 1 the sharp one.

    Raises:
        UsageError: A sharpness outside 0..1, or a model without a partner.
        ModelError: The partner cannot be read or has another structure.
    """
    if not (math.isfinite(sharpness) and 0 <= sharpness <= 1):
        raise UsageError(f"sharpness is {sharpness:g}; it must be between 0 (faithful) and 1 (sharp)")
    sharper, softer = model.metadata.get("sharper"), model.metadata.get("softer")
    partner = sharper or softer
    if not partner:
        raise UsageError(f"{model.name} has no sharp or faithful partner, so sharpness cannot be chosen; leave it out")
    other = read_model(partner)
    soft, sharp = (model, other) if sharper else (other, model)
    try:
        network = interpolate(soft.network, sharp.network, sharpness)
    except ModelError as error:
        raise ModelError(f"{soft.name} and {sharp.name} do not fit: {error}") from None
    return replace(model, network=network, name=f"{soft.name} to {sharp.name}, sharpness {sharpness:g}", path=None)
