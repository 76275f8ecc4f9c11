"""Data model of the doctor's report, as written by `--json`; docs/guide.md explains the fields.

A change that would mislead readers of old reports gets a new number in `SCHEMA`; new optional fields do not.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from srgan_fast.runtime.protocol import Precision

SCHEMA: Literal["srgan_fast.doctor/1"] = "srgan_fast.doctor/1"

# absent: not installed, which is not an error; unused: installed, but something that it needs is absent; broken: does
# not work, or a required part is missing.
State = Literal["ok", "absent", "unused", "broken"]

Direction = Literal["forward", "dgrad", "wgrad"]


class DoctorPart(BaseModel):
    """Base class of all parts of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="null")


class Processor(DoctorPart):
    """The CPU and its instruction sets."""

    model: str
    flags: list[str] = Field(description="CPU flags that kernel dispatch depends on")
    cpus: int = Field(description="CPUs that the process may run on")
    isas: list[str] = Field(description="supported instruction-set levels, lowest first; docs/engine.md")
    isa: str | None = Field(description="the level in use; None if unknown")
    isa_asked: str | None = Field(description="SRGAN_FAST_ISA")


class Component(DoctorPart):
    """A component that may be installed."""

    name: str
    state: State
    detail: str = Field(default="", description="reason, consequence and remedy if it is not ok; otherwise empty")


class Package(Component):
    """A third-party Python package."""

    version: str | None = Field(description="None if it is not installed")


class Module(Component):
    """A native module of this package."""

    purpose: str


class BackendState(Component):
    """A registered backend."""

    precisions: list[Precision] = Field(description="precisions that are available here")


class OpChoice(DoctorPart):
    """The implementation that `kernels = auto` selects for an operator."""

    op: str
    device: str
    dtype: str
    implementation: Literal["fused", "plain torch"]
    reason: str


class SelfTest(DoctorPart):
    """A self-test: a computation compared with a slow, exact one."""

    part: Literal["imaging", "pictures", "backend", "op"]
    name: str
    device: str | None = Field(default=None, description="device of an operator; operators only, like the next two")
    dtype: str | None = None
    direction: Direction | None = None
    state: Literal["passed", "failed", "skipped"]
    error: float | None = Field(default=None, description="measured error; of several, the one nearest to its bound")
    bound: float | None = Field(default=None, description="largest acceptable error")
    measure: str = Field(default="", description="quantity and unit of the error")
    detail: str = Field(default="", description="why it failed or was skipped")

    @property
    def title(self) -> str:
        """Name of the test, with direction, dtype and device of an operator."""
        return self.name if self.direction is None else f"{self.name}: {self.direction}, {self.dtype}, {self.device}"


class DoctorReport(DoctorPart):
    """Result of the doctor's checks."""

    schema_name: Literal["srgan_fast.doctor/1"] = Field(default=SCHEMA, alias="schema")
    ok: bool = Field(description="everything that is installed works")
    problems: list[str] = Field(description="a line per broken component and failed test")
    version: str = Field(description="of srgan_fast")
    python: str
    platform: str
    processor: Processor
    packages: list[Package]
    modules: list[Module]
    backends: list[BackendState]
    ops: list[OpChoice] = Field(description="empty without PyTorch")
    tests: list[SelfTest]

    def as_json(self) -> str:
        """JSON with a trailing newline."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "DoctorReport":
        """Parses the output of `as_json`."""
        return cls.model_validate_json(text)
