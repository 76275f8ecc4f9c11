"""What the pages of both reports say alike: numbers, the machine, the rows' colours."""

from srgan_fast.bench.html.page import Facts, Mark
from srgan_fast.bench.html.svg import number
from srgan_fast.bench.report import Environment

DASH = "\u2013"
_TONES = {"native": 0, "torch": 1, "openvino": 2, "onnxruntime": 3, "mnn": 4, "ncnn": 5, "tensorrt": 6}
_OTHER_TONE = 7


def runtime_tone(runtime: str) -> int:
    """The colour of a runtime, the same on every page."""
    if "tensorrt" in runtime:  # whoever calls it
        return _TONES["tensorrt"]
    return _TONES.get(runtime, _OTHER_TONE)


def figure(value: float | None, unit: str = "") -> str:
    """A number, or a dash where it is not known."""
    if value is None:
        return DASH
    return f"{number(value)} {unit}" if unit else number(value)


def fixed(value: float | None, form: str) -> str:
    """A number in that format, or a dash where it is not known."""
    return DASH if value is None else format(value, form)


def mark_of(status: str, rank: int | None) -> Mark:
    """How a row is marked in tables."""
    if status == "wrong":
        return "wrong"
    if status == "failed":
        return "failed"
    return "best" if rank == 1 else ""


def plural(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def day(created: str) -> str:
    """ISO 8601 as people read it."""
    return created.replace("T", " ").replace("+00:00", " UTC")


def environment_facts(environment: Environment, *more: tuple[str, str]) -> Facts:
    """The machine and what is installed on it."""
    load = environment.load_average
    return Facts(
        [
            ("Processor", environment.cpu),
            ("Instruction sets", " ".join(environment.cpu_flags) or DASH),
            ("CPUs", f"{environment.cpus} that the process may use"),
            *more,
            ("Memory", DASH if environment.memory_mib is None else f"{environment.memory_mib / 1024:.1f} GiB"),
            ("System", environment.system),
            ("Python", environment.python),
            ("Packages", ", ".join(f"{name} {version}" for name, version in environment.versions.items())),
            (
                "Variables",
                ", ".join(f"{k}={v}" for k, v in environment.variables.items()) or "none that matter are set",
            ),
            ("Load average", DASH if load is None else ", ".join(f"{value:.2f}" for value in load) + " at the start"),
        ]
    )
