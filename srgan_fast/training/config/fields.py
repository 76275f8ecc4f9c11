"""Types of configuration values, and the base of all sections."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def _no_text(what: str) -> BeforeValidator:
    """Rejects text and booleans, which pydantic would convert: TOML has numbers, so `"3"` or `true` is a mistake."""

    def check(value: object) -> object:
        if isinstance(value, str | bool):
            raise PydanticCustomError("text", "must be {what}", {"what": what})
        return value

    return BeforeValidator(check)


Int = Annotated[int, _no_text("a whole number")]
Float = Annotated[float, _no_text("a number")]
Positive = Annotated[Int, Field(ge=1)]
Count = Annotated[Int, Field(ge=0)]
Weight = Annotated[Float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[Float, Field(gt=0, lt=1)]
Share = Annotated[Float, Field(ge=0, le=1)]
Decay = Annotated[Float, Field(ge=0, lt=1)]
# The largest TOML integer, of 64 bits; torch accepts it and also the discriminator's seed, which is one higher.
Seed = Annotated[Int, Field(ge=0, le=2**63 - 1)]
Range = tuple[Weight, Weight]
Percentage = Annotated[int, Field(ge=0, le=100)]
Quality = tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]]


class ConfigSection(BaseModel):
    """A section of the configuration: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def check_ranges(self, *names: str) -> None:
        """Checks that ranges are in order.

        Raises:
            ValueError: the first value of a range is greater than the second.
        """
        for name in names:
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [lowest, highest], got [{low}, {high}]")
