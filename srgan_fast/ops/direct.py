"""Calls the project's operators with little Python overhead.

Operators registered with `torch.library.register_autograd` return to Python in every call, twice if gradients are
needed. A training step makes some four hundred calls, between kernels that evict Python from the caches, while all
other threads wait. In eager mode each operator is therefore wrapped in one `autograd.Function`, which calls it below
autograd; so do calls that need no gradient. Tracing and compiling see the operators themselves.
"""

from collections.abc import Callable
from typing import Any, cast

import torch

from srgan_fast.errors import TrainingError
from srgan_fast.ops.native import available, why_not_on_cuda

Backward = Callable[..., Any]
Save = Callable[[Any, tuple[Any, ...], Any], None]


def below_autograd(operator: Callable[..., Any], *arguments: Any) -> Any:
    """Calls an operator; bypasses its autograd kernel if gradients are disabled."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return operator(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def with_gradient(
    name: str,
    backward: Backward,
    save: Save,
    changing: Callable[..., Any] | None = None,
    on_cuda_only: bool = False,
) -> Callable[..., Any]:
    """An operator of `srgan_fast` with its gradient, which is also registered with PyTorch unless that is impossible.

    Args:
        name: of the operator, which takes positional arguments.
        backward: from context and gradients of the results to one gradient per argument.
        save: saves what `backward` needs from arguments and results in the context.
        changing: calls what PyTorch gives no gradients: an operator that changes its arguments, or one of several
            batches. It is not for torch.compile.
        on_cuda_only: whether the operator only exists with the CUDA library.
    """

    def operator(*arguments: Any) -> Any:
        return changing(*arguments) if changing else getattr(torch.ops.srgan_fast, name)(*arguments)

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                results = operator(*arguments)
            save(ctx, arguments, results)
            return results

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return backward(ctx, *gradients)

    if changing is None and (available() if not on_cuda_only else why_not_on_cuda() is None):
        torch.library.register_autograd(f"srgan_fast::{name}", backward, setup_context=cast(Any, save))

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return operator(*arguments)
        if torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in arguments):
            return Direct.apply(*arguments)
        return below_autograd(operator, *arguments)

    return call


def refuse_second_gradients(ctx: Any, *gradients: Any) -> None:
    """Backward function of operators that are gradients themselves."""
    raise TrainingError(
        "fused convolutions do not support double backward; run networks that need it with kernels='reference'"
    )


def without_gradient(name: str) -> None:
    """Registers that an operator is a gradient itself and has none."""
    torch.library.register_autograd(
        f"srgan_fast::{name}",
        refuse_second_gradients,
        setup_context=cast(Any, lambda ctx, inputs, output: None),
    )
