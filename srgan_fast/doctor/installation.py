"""What is installed, what can be loaded, and what is selected on this machine. Nothing is computed yet."""

import importlib
import os
import sys

from srgan_fast.doctor.report import BackendState, Module, OpChoice, Package, Processor, State
from srgan_fast.errors import SrganFastError, TrainingError
from srgan_fast.runtime import Precision
from srgan_fast.runtime.installed import is_installed, version_of
from srgan_fast.runtime.processor import describe_processor
from srgan_fast.runtime.registry import BACKENDS, choose_backend, first_line, missing_modules, usable_cpus

ENGINE, IMAGING, OPERATORS = "srgan_fast._engine", "srgan_fast._imaging", "srgan_fast._C"
CUDA_OPERATORS = "srgan_fast._C_cuda"
CONVOLUTIONS = "convolution 3x3, 3x3 of stride 2, 5x5"

_REQUIRED = ("numpy", "pyvips", "safetensors")
_NO_TORCH = (
    "not installed: upscaling needs none; training, convert, export and the torch backend do: "
    "pip install 'srgan_fast[train]'"
)
_DTYPES = ("float32", "float64", "bfloat16", "float16")


def find_packages() -> list[Package]:
    """Required packages, and PyTorch, which is optional."""
    required = [_package(name, "broken", "not installed; reinstall srgan_fast") for name in _REQUIRED]
    return [*required, _package("torch", "absent", _NO_TORCH)]


def _package(name: str, without: State, meaning: str) -> Package:
    if not is_installed(name):
        return Package(name=name, version=None, state=without, detail=meaning)
    problem = _import_problem(name)
    return Package(
        name=name,
        version=_version(name),
        state="broken" if problem else "ok",
        detail=f"cannot be imported: {problem}" if problem else "",
    )


def find_modules(torch_works: bool) -> list[Module]:
    """The native modules.

    Args:
        torch_works: whether PyTorch can be imported, which the operators are linked to.
    """
    return [
        _native(ENGINE, "upscaling on the CPU"),
        _native(IMAGING, "bicubic resize"),
        *_operators(torch_works),
    ]


def _native(name: str, purpose: str) -> Module:
    if not is_installed(name):
        return Module(name=name, purpose=purpose, state="broken", detail="missing; reinstall srgan_fast")
    problem = _import_problem(name)
    detail = f"is built, but cannot be loaded: {problem}; reinstall srgan_fast" if problem else ""
    return Module(name=name, purpose=purpose, state="broken" if problem else "ok", detail=detail)


def _operators(torch_works: bool) -> list[Module]:
    purposes = {OPERATORS: "fused kernels for training", CUDA_OPERATORS: "the same on CUDA"}
    if not torch_works:
        return [_without_torch(name, purpose) for name, purpose in purposes.items()]
    from srgan_fast import ops  # noqa: PLC0415 (needs torch)
    from srgan_fast.ops import native  # noqa: PLC0415 (needs torch)

    problems = {OPERATORS: ops.why_not(), CUDA_OPERATORS: native.why_not_on_cuda()}
    # CUDA kernels need a PyTorch with CUDA and the CPU operators to load; that is not a fault of theirs.
    loadable = native.has_cuda() and problems[OPERATORS] is None
    faults: dict[str, State] = {OPERATORS: "broken", CUDA_OPERATORS: "broken" if loadable else "unused"}
    found = []
    for name, purpose in purposes.items():
        problem = problems[name]
        state: State = "ok" if problem is None else faults[name] if is_installed(name) else "absent"
        found.append(Module(name=name, purpose=purpose, state=state, detail=problem or ""))
    return found


def _without_torch(name: str, purpose: str) -> Module:
    built = is_installed(name)
    detail = "built, but PyTorch is needed to load it" if built else "not built; needs PyTorch"
    return Module(name=name, purpose=purpose, state="unused" if built else "absent", detail=detail)


def describe_cpu(engine_works: bool) -> tuple[Processor, str | None]:
    """The processor, and what is wrong with the requested instruction set.

    Args:
        engine_works: whether the engine can be loaded; only it knows the available levels.
    """
    model, flags = describe_processor()
    levels: list[str] = []
    chosen = problem = None
    if engine_works:
        engine = importlib.import_module(ENGINE)
        levels = engine.isas()
        try:
            chosen = engine.isa()
        except ValueError as error:  # names the variable, its value and the supported levels
            problem = str(error)
    asked = os.environ.get("SRGAN_FAST_ISA") or None
    processor = Processor(model=model, flags=flags, cpus=usable_cpus(), isas=levels, isa=chosen, isa_asked=asked)
    return processor, problem


def find_backends(broken: dict[str, str]) -> list[BackendState]:
    """States of the registered backends.

    Args:
        broken: modules that are known not to work, with the reason.
    """
    return [_backend(name, broken) for name in BACKENDS]


def _backend(name: str, broken: dict[str, str]) -> BackendState:
    entry = BACKENDS[name]
    for module in entry.modules:
        if module in broken:
            return BackendState(name=name, state="broken", precisions=[], detail=broken[module])
    able: list[Precision] = []
    refusals = []
    for precision in entry.precisions:
        try:
            choose_backend(name, precision)
            able.append(precision)
        except SrganFastError as error:
            refusals.append(str(error))
    if missing_modules(entry) or (entry.why_not and not able):
        return BackendState(name=name, state="absent", precisions=[], detail=refusals[0])
    for module in entry.modules:
        if problem := _import_problem(module):
            detail = f"backend {name}: {module} is installed, but cannot be imported: {problem}"
            return BackendState(name=name, state="broken", precisions=[], detail=detail)
    return BackendState(name=name, state="ok", precisions=able, detail="; ".join(refusals))


def find_ops() -> list[OpChoice]:
    """The selection of `kernels = auto` for each device of this machine and each dtype; needs torch.

    The self-test of a GPU is run again.
    """
    import torch  # noqa: PLC0415 (heavy)

    from srgan_fast.ops import cuda  # noqa: PLC0415 (needs torch)

    if torch.cuda.is_available():
        for float32 in (False, True):
            cuda.problem_of(torch.device("cuda"), rerun=True, float32=float32)
    return [choose_op(device, dtype) for device in _devices() for dtype in _DTYPES]


def _devices() -> list[str]:
    import torch  # noqa: PLC0415 (heavy)

    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def choose_op(device: str, dtype: str) -> OpChoice:
    """The implementation of convolutions for a dtype on a device, and the reason."""
    import torch  # noqa: PLC0415 (heavy)

    from srgan_fast.ops.switch import choose_fused, recorded_steps  # noqa: PLC0415 (needs torch)

    reason = ""
    x = torch.empty(0, dtype=getattr(torch, dtype), device=device)
    try:
        choose_fused("fused", x)
        with recorded_steps():  # as in `srgan-fast train`
            takes = choose_fused("auto", x)
        if not takes:
            reason = "not run on a GPU yet in this type; kernels = fused asks for it"
    except TrainingError as error:
        reason = str(error).removeprefix("kernels='fused': ")
    return OpChoice(
        op=CONVOLUTIONS,
        device=device,
        dtype=dtype,
        implementation="plain torch" if reason else "fused",
        reason=reason,
    )


def _import_problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a library that fails to load may raise anything
        return first_line(error)
    return None


def _version(package: str) -> str | None:
    # PyTorch's own version includes the CUDA version that it was built for.
    own = getattr(sys.modules.get(package), "__version__", None)
    return str(own) if own else version_of(package)
