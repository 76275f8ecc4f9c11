"""Imports go one way: command line, tasks, runtimes, models, data, architectures, networks, operators, pages."""

import ast
from pathlib import Path

import pytest

import srgan_fast

ROOT = Path(srgan_fast.__file__).parent
TASKS = {"upscale", "training", "evaluation", "export", "bench", "doctor"}
SHARED = {"errors", "files", "json_text", "lazy", "memory", "__init__"}  # every layer may use these
BELOW = {"ops", "_engine", "_imaging", "_C", "_C_cuda"}

# What a part may import beside itself and SHARED; "part.module" allows that module only.
ALLOWED: dict[str, set[str]] = {
    "cli": TASKS | {"models", "data", "runtime", "network", "architectures", "pages"} | BELOW,
    **{task: {"models", "data", "runtime", "network", "architectures"} | BELOW for task in TASKS},
    "runtime": {"models", "data", "network"} | BELOW,
    "models": {"network", "architectures"} | BELOW,
    "architectures": {"network"},
    "network": set(),
    "data": BELOW,
    "ops": {"_C", "_C_cuda"},
    "pages": set(),
    "errors": set(),
    "files": set(),
    "json_text": set(),
    "lazy": set(),
    "memory": set(),
    # The package's front doors are opened on first use; `python -m` starts the command line.
    "__init__": {"runtime", "models"},
    "__main__": {"cli"},
}
ALLOWED["bench"] |= TASKS | {"pages"}

MODULES = sorted(ROOT.rglob("*.py"))


def _imports(path: Path) -> list[tuple[str, str]]:
    """Part and dotted module below the package of every import of our own, function bodies included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            module = node.module or ""
            if module == "srgan_fast":
                found += [(alias.name, alias.name) for alias in node.names if alias.name[:2] != "__"]
            elif module.startswith("srgan_fast."):
                inner = module.removeprefix("srgan_fast.")
                found.append((inner.split(".")[0], inner))
        elif isinstance(node, ast.Import):
            inners = [a.name.removeprefix("srgan_fast.") for a in node.names if a.name.startswith("srgan_fast.")]
            found += [(inner.split(".")[0], inner) for inner in inners]
    return found


def _part(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def test_every_part_of_the_package_has_a_layer() -> None:
    assert {_part(path) for path in MODULES} <= ALLOWED.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = _part(path)
    for part, module in _imports(path):
        if part in SHARED or part == own:
            continue
        allowed = ALLOWED[own]
        assert part in allowed or any(module == a or module.startswith(f"{a}.") for a in allowed), (
            f"{own} must not import {module}"
        )


@pytest.mark.parametrize("module", ["torch", "torchvision"])
@pytest.mark.parametrize("part", ["cli", "data", "upscale", "evaluation"])
def test_parts_that_work_without_torch_do_not_import_it_at_the_top(part: str, module: str) -> None:
    for path in (ROOT / part).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == module for name in names), f"{path.relative_to(ROOT)} imports {module}"
