"""The doctor's checks from start to end: what is installed, what is selected, whether it computes correctly."""

import platform
from collections.abc import Callable, Iterator

import srgan_fast
from srgan_fast.doctor import inference_checks, installation
from srgan_fast.doctor.checks import skip
from srgan_fast.doctor.report import BackendState, Component, DoctorReport, Module, OpChoice, Package, SelfTest
from srgan_fast.errors import ModelError
from srgan_fast.models import DEFAULT_MODEL

OnTest = Callable[[str], None]


def examine(on_test: OnTest | None = None) -> DoctorReport:
    """Inspects this installation and runs its self-tests, in seconds.

    Args:
        on_test: called with the name of each finished test.

    Returns:
        The report; `ok` is false if something that is installed does not work. Missing optional parts are no error.
    """
    packages = installation.find_packages()
    torch = next(package for package in packages if package.name == "torch")
    modules = installation.find_modules(torch.state == "ok")
    components: list[Component] = [*packages, *modules]
    broken = {part.name: f"{part.name}: {part.detail}" for part in components if part.state == "broken"}
    processor, isa_problem = installation.describe_cpu(installation.ENGINE not in broken)
    if isa_problem:
        broken[installation.ENGINE] = isa_problem
    # First, since it reruns the GPU self-test, which a backend depends on.
    ops = installation.find_ops() if torch.state == "ok" else []
    backends = installation.find_backends(broken)
    tests = []
    for test in _tests(broken, backends, ops, _why_no_ops(torch, modules, isa_problem)):
        tests.append(test)
        if on_test:
            on_test(test.title)
    # Only one line for a module and the backend that needs it.
    problems = list(dict.fromkeys([*broken.values(), *(b.detail for b in backends if b.state == "broken")]))
    problems += [f"{test.title}: {test.detail}" for test in tests if test.state == "failed"]
    return DoctorReport(
        ok=not problems,
        problems=problems,
        version=srgan_fast.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor,
        packages=packages,
        modules=modules,
        backends=backends,
        ops=ops,
        tests=tests,
    )


def _why_no_ops(torch: Package, modules: list[Module], isa_problem: str | None) -> str | None:
    """Why the operators cannot be tested; None if they can."""
    if torch.state != "ok":
        return "PyTorch is not installed" if torch.state == "absent" else "PyTorch cannot be imported"
    operators = next(module for module in modules if module.name == installation.OPERATORS)
    return operators.detail or isa_problem


def _tests(
    broken: dict[str, str], backends: list[BackendState], ops: list[OpChoice], why_no_ops: str | None
) -> Iterator[SelfTest]:
    if installation.IMAGING in broken:
        yield skip("imaging", "resize", broken[installation.IMAGING])
    else:
        yield from inference_checks.check_resize()
    if "pyvips" in broken:
        yield skip("pictures", "PNG, 16 bits", broken["pyvips"])
    else:
        yield from inference_checks.check_pictures()
    try:
        yield from inference_checks.check_backends(backends, DEFAULT_MODEL)
    except ModelError as error:
        yield SelfTest(part="backend", name=DEFAULT_MODEL, state="failed", detail=str(error))
    for backend in backends:
        if backend.state == "broken":
            yield skip("backend", backend.name, backend.detail)
    if why_no_ops:
        yield skip("op", "fused operators", why_no_ops)
        return
    from srgan_fast.doctor import op_checks  # noqa: PLC0415 (needs torch)

    yield from op_checks.check_ops(ops)
    yield from op_checks.check_cuda_ops()
