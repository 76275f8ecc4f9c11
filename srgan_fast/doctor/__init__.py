"""Whether this installation works: what is there, what is chosen, and a test of everything that computes."""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.doctor.examine import examine
    from srgan_fast.doctor.report import DoctorReport

__all__ = ["DoctorReport", "examine"]

# On first use, since compute-sanitizer's part needs neither pydantic nor anything else that the examination loads.
__getattr__ = on_first_use(
    __name__, {"examine": "srgan_fast.doctor.examine", "DoctorReport": "srgan_fast.doctor.report"}
)
