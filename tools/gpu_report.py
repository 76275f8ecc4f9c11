"""Runs `srgan-fast bench gpu` from a checkout.

usage: python tools/gpu_report.py [options of `srgan-fast bench gpu`; --help lists them]
"""

import sys

from srgan_fast.cli.app import app

if __name__ == "__main__":
    app(["bench", "gpu", *sys.argv[1:]])
