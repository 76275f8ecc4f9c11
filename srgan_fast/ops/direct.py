"""The project's operators with little Python between the caller and the kernel.

What `torch.library.register_autograd` makes goes to Python and back at each call of an operator, twice where gradients
are wanted. A training step calls some four hundred, in between kernels that leave nothing of Python in the caches, and
meanwhile all other threads wait. So in eager mode one `autograd.Function` stands around each operator, and inside of
it, or where no gradient is wanted, the call goes below autograd. Tracing and compiling see the operators themselves.
"""

from collections.abc import Callable
from typing import Any, cast

import torch

from srgan_fast.errors import TrainingError
from srgan_fast.ops.native import available

Backward = Callable[..., Any]
Save = Callable[[Any, tuple[Any, ...], Any], None]


def below_autograd(operator: Callable[..., Any], *arguments: Any) -> Any:
    """What an operator gives, past its registered gradient where none can be wanted: with gradients disabled."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return operator(*arguments)
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


def with_gradient(name: str, backward: Backward, save: Save) -> Callable[..., Any]:
    """An operator of `srgan_fast` with its gradient, which is registered with torch, too.

    Args:
        name: of the operator, which takes positional arguments.
        backward: from a context and the results' gradients to those of the arguments, one each.
        save: keeps in a context, of the arguments and the results, what `backward` needs.
    """

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                results = getattr(torch.ops.srgan_fast, name)(*arguments)
            save(ctx, arguments, results)
            return results

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            return backward(ctx, *gradients)

    if available():
        torch.library.register_autograd(f"srgan_fast::{name}", backward, setup_context=cast(Any, save))

    def call(*arguments: Any) -> Any:
        operator = getattr(torch.ops.srgan_fast, name)
        if torch.compiler.is_compiling():
            return operator(*arguments)
        if torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in arguments):
            return Direct.apply(*arguments)
        return below_autograd(operator, *arguments)

    return call


def refuse_second_gradients(ctx: Any, *gradients: Any) -> None:
    """The backward function of operators that are gradients themselves."""
    raise TrainingError(
        "fused convolutions have no gradients of gradients; run networks that need them with kernels='reference'"
    )


def without_gradient(name: str) -> None:
    """Registers that an operator is a gradient itself, and has none."""
    torch.library.register_autograd(
        f"srgan_fast::{name}",
        refuse_second_gradients,
        setup_context=cast(Any, lambda ctx, inputs, output: None),
    )
