"""Upscaling of single images (`Upscaler`, from `runtime`) and of many (`plan_jobs`, `run_jobs`)."""

from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale.batch import run_jobs
from srgan_fast.upscale.distributed import RayOptions, check_ray, run_on_ray
from srgan_fast.upscale.job import Job, JobResult, OutputOptions, Plan, Size
from srgan_fast.upscale.manifest import Manifest, run_digest
from srgan_fast.upscale.plan import plan_jobs, plan_shard
from srgan_fast.upscale.shared import run_shared

__all__ = [
    "Job",
    "JobResult",
    "Manifest",
    "OutputOptions",
    "Plan",
    "RayOptions",
    "Size",
    "Upscaler",
    "check_ray",
    "plan_jobs",
    "plan_shard",
    "run_digest",
    "run_jobs",
    "run_on_ray",
    "run_shared",
]
