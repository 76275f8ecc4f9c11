"""Whether this installation works: what is there, what is chosen, and a test of everything that computes."""

from srgan_fast.doctor.examine import examine
from srgan_fast.doctor.report import DoctorReport

__all__ = ["DoctorReport", "examine"]
