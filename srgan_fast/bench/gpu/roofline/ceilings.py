"""What GPUs can do at most, from their makers' documents; no GPU is asked, and none does both at once."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A GPU's limits.

    Attributes:
        name: of the product.
        tflops: of dense products of bfloat16 matrices with float32 sums, 1e12 operations a second.
        gb_s: to and from the GPU's memory, 1e9 bytes a second.
        multiprocessors: of the product.
        shared_block: bytes of shared memory that a block may have.
        shared_all: bytes of shared memory of a multiprocessor.
        threads: of a multiprocessor.
        source: where `tflops`, `gb_s` and `multiprocessors` stand.
    """

    name: str
    tflops: float
    gb_s: float
    multiprocessors: int
    shared_block: int
    shared_all: int
    threads: int
    source: str


# Shared memory and threads: "CUDA C++ Programming Guide", technical specifications per compute capability.
_AMPERE = (163 * KIB, 164 * KIB, 2048)  # 8.0
_ADA = (99 * KIB, 100 * KIB, 1536)  # 8.9, and 12.0 alike
_HOPPER = (227 * KIB, 228 * KIB, 2048)  # 9.0

CEILINGS = (
    Ceiling(
        "A100 80GB SXM", 312.0, 2039.0, 108, *_AMPERE,
        "NVIDIA, \"A100 Tensor Core GPU\" data sheet; multiprocessors from \"A100 Tensor Core GPU Architecture\"",
    ),
    Ceiling(
        "H100 SXM", 989.4, 3350.0, 132, *_HOPPER,
        "NVIDIA, \"H100 Tensor Core GPU\" data sheet (without sparsity) and \"H100 Tensor Core GPU Architecture\"",
    ),
    Ceiling(
        "RTX 4090", 165.2, 1008.0, 128, *_ADA,
        "NVIDIA, \"Ada GPU Architecture\", appendix A; FP32 sums halve what the tensor cores do",
    ),
    Ceiling(
        "RTX 5090", 209.5, 1792.0, 170, *_ADA,
        "NVIDIA, \"RTX Blackwell GPU Architecture\", appendix A; FP32 sums halve what the tensor cores do",
    ),
)  # fmt: skip
# What docs/cuda.md was measured on.
H200 = Ceiling("H200", 989.4, 4800.0, 132, *_HOPPER, 'NVIDIA, "H200 Tensor Core GPU" data sheet (without sparsity)')
