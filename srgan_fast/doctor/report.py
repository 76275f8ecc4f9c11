"""What an examination found, as data: what `--json` writes. docs/guide.md explains it; these classes are its schema.

A change that readers of old reports would misread gets a new number in `SCHEMA`; new optional fields do not.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from srgan_fast.runtime.protocol import Precision

SCHEMA: Literal["srgan_fast.doctor/1"] = "srgan_fast.doctor/1"

# absent: not installed, which is no fault; unused: there, but what it needs is absent; broken: does not work, or is
# missing though every installation has it.
State = Literal["ok", "absent", "unused", "broken"]

Direction = Literal["forward", "dgrad", "wgrad"]


class Part(BaseModel):
    """What all parts of a report have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="null")


class Processor(Part):
    """The CPU, and what the native modules make of it."""

    model: str
    flags: list[str] = Field(description="of those that decide about kernels")
    cpus: int = Field(description="that the process may run on")
    isas: list[str] = Field(description="instruction-set levels that can run here, the lowest first; docs/engine.md")
    isa: str | None = Field(description="the level in use; None if it is not known")
    isa_asked: str | None = Field(description="SRGAN_FAST_ISA")


class Component(Part):
    """Something that may be installed."""

    name: str
    state: State
    detail: str = Field(default="", description="why it is not ok, what that means and what to do; empty for ok")


class Package(Component):
    """A Python package that others make."""

    version: str | None = Field(description="None if it is not installed")


class Module(Component):
    """A native module of this package."""

    purpose: str


class BackendState(Component):
    """A runtime of the registry."""

    precisions: list[Precision] = Field(description="that can be asked for here")


class OpChoice(Part):
    """What `kernels = auto` computes an operator with."""

    op: str
    device: str
    dtype: str
    implementation: Literal["fused", "plain torch"]
    reason: str


class SelfTest(Part):
    """Something that was computed here and held against a slow, exact computation."""

    part: Literal["imaging", "pictures", "backend", "op"]
    name: str
    device: str | None = Field(default=None, description="of an operator, like the next two")
    dtype: str | None = None
    direction: Direction | None = None
    state: Literal["passed", "failed", "skipped"]
    error: float | None = Field(default=None, description="measured; where several are, the one nearest to its bound")
    bound: float | None = Field(default=None, description="that the error must not exceed")
    measure: str = Field(default="", description="of what the error is, and in which unit")
    detail: str = Field(default="", description="why it failed or was skipped")

    @property
    def title(self) -> str:
        """Its name and, of an operator, what of it and where."""
        return self.name if self.direction is None else f"{self.name}: {self.direction}, {self.dtype}, {self.device}"


class DoctorReport(Part):
    """One examination."""

    schema_name: Literal["srgan_fast.doctor/1"] = Field(default=SCHEMA, alias="schema")
    ok: bool = Field(description="all that is installed works")
    problems: list[str] = Field(description="a line for each thing that is broken and each test that failed")
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
        """With a newline at the end."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "DoctorReport":
        """Reads what `as_json` wrote."""
        return cls.model_validate_json(text)
