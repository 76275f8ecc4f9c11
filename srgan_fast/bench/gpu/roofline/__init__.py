"""A floor for the time of training steps and pictures on GPUs, predicted from the kernels' own tiles.

`make_document` writes docs/gpu-roofline.md; nothing here needs a GPU.
"""

from srgan_fast.bench.gpu.roofline.document import make_document

__all__ = ["make_document"]
