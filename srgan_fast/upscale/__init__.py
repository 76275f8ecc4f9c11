"""The task of upscaling: one picture at a time (`Upscaler`, from `runtime`), or many (`plan_jobs`, `run_jobs`)."""

from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale.batch import Job, JobResult, OutputOptions, plan_jobs, run_jobs

__all__ = ["Job", "JobResult", "OutputOptions", "Upscaler", "plan_jobs", "run_jobs"]
