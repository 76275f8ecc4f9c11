"""Checks whether this installation works: what is installed, what is selected, and self-tests of all computations."""

from srgan_fast.doctor.examine import examine
from srgan_fast.doctor.report import DoctorReport

__all__ = ["DoctorReport", "examine"]
