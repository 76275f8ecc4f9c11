"""The task of upscaling: one picture at a time (`Upscaler`), or many (`plan_jobs` and `run_jobs`)."""

from srgan_fast.upscale.batch import Job, JobResult, OutputOptions, plan_jobs, run_jobs
from srgan_fast.upscale.upscaler import Upscaler

__all__ = ["Job", "JobResult", "OutputOptions", "Upscaler", "plan_jobs", "run_jobs"]
