"""What the compiler made of the CUDA kernels: within their budget, and with the instructions they were written for.

Looked at in the built library, without a GPU: registers, spills, static shared memory and how many warps fit at once of
every kernel on every architecture, and the machine code of the convolutions for the oldest one.
"""

import importlib.util
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

import srgan_fast

LIBRARY = Path(srgan_fast.__file__).parent / "_C_cuda.abi3.so"
BUDGET = Path(__file__).parents[2] / "csrc" / "kernels" / "cuda" / "budget.json"
OLDEST = "sm_80"

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="the CUDA kernels are not built: no nvcc")

Dump = Callable[..., str]


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Dump:
    """Runs cuobjdump, which calls nvdisasm; both come from PyPI, for Linux on x86-64 only."""
    found = importlib.util.find_spec("nvidia")
    places = [Path(place) / "cu13" / "bin" for place in (found.submodule_search_locations or [])] if found else []
    tools = tmp_path_factory.mktemp("tools")
    for name in ("cuobjdump", "nvdisasm"):
        source = next((place / name for place in places if (place / name).exists()), None)
        if source is None:
            pytest.skip(f"not installed: {name}")
        (tools / name).symlink_to(shutil.copy(source, tools / f"{name}.copy"))
        (tools / name).chmod(0o755)

    def run(*options: str) -> str:
        command = [str(tools / "cuobjdump"), *options, str(LIBRARY)]
        environment = {"PATH": f"{tools}:/usr/bin:/bin"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def _family(mangled: str) -> str:
    found = re.search(r"\d+([a-z_]+_kernel)I", mangled)
    assert found, mangled
    return found.group(1)


REGISTERS = 65536  # of a multiprocessor, on every architecture here; a warp's are multiples of 256
WARPS = 48  # that one has at least


@pytest.fixture(scope="module")
def threads(dump: Dump) -> dict[str, int]:
    """Threads of a block of each kernel, which are the same on all architectures."""
    found: dict[str, int] = {}
    name = ""
    lines = iter(dump("-elf").splitlines())
    for line in lines:
        if section := re.match(r"\.nv\.info\.(\w+)", line):
            name = section.group(1)
        elif "EIATTR_MAX_THREADS" in line:
            next(lines)
            found[name] = int(next(lines).split()[1], 16)
    return found


def test_every_kernel_is_within_its_budget_on_every_architecture(dump: Dump, threads: dict[str, int]) -> None:
    budget = json.loads(BUDGET.read_text(encoding="utf-8"))
    seen: dict[str, set[str]] = defaultdict(set)
    architecture, name, beyond = "", "", []
    for line in dump("-res-usage").splitlines():
        if found := re.match(r"arch = (\w+)", line):
            architecture = found.group(1)
        elif found := re.match(r" Function (\w+):", line):
            name = found.group(1)
            seen[architecture].add(_family(name))
        elif found := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line):
            registers, stack, shared, local = map(int, found.groups())
            warps = threads[name] // 32
            at_once = min(WARPS, REGISTERS // (-(-registers // 8) * 256 * warps) * warps)
            allowed = budget[_family(name)]
            needs = {"registers": registers, "stack": stack + local, "shared": shared}
            if any(value > allowed[what] for what, value in needs.items()) or at_once < allowed["warps"]:
                beyond.append(f"{name} on {architecture}: {needs}, {at_once} warps at once")
    assert not beyond
    assert seen
    for architecture, families in seen.items():
        assert families == set(budget) - {"about"}, architecture


def test_convolutions_use_tensor_cores_and_wide_copies(dump: Dump) -> None:
    if f".{OLDEST}." not in dump("-lelf"):
        pytest.skip(f"not built for {OLDEST}")
    code: dict[str, list[str]] = defaultdict(list)
    name = ""
    for line in dump("-sass", "-arch", OLDEST).splitlines():
        if found := re.search(r"Function : (\w+)", line):
            name = found.group(1)
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]+)", line):
            code[name].append(found.group(1))
    convolutions = {
        name: found for name, found in code.items() if _family(name).startswith(("conv_", "infer_", "tail_"))
    }
    assert len(convolutions) > 40
    for name, instructions in convolutions.items():
        # Products, fragments four matrices at a time, asynchronous copies of 16 bytes past the first cache.
        floats = "_kernelIf" in name
        product = "HMMA.1688.F32.TF32" if floats else "HMMA.16816.F32"
        assert any(i.startswith(product) for i in instructions), name
        # Matrices of floats cannot be transposed as they are loaded.
        if not (floats and "wgrad" in name):
            assert any(re.fullmatch(r"LDSM\.16\.MT?88\.4|LDSM\.16\.M88\.4", i) for i in instructions), name
        assert any(re.fullmatch(r"LDGSTS\.E\.BYPASS(\.LTC128B)?\.128(\.\w+)?", i) for i in instructions), name
        assert not any(i.startswith(("LDL", "STL")) for i in instructions), name
