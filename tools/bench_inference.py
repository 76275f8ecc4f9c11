"""Runs `srgan-fast bench inference` from a checkout.

usage: python tools/bench_inference.py [options of `srgan-fast bench inference`; --help lists them]
"""

import sys

from srgan_fast.cli.app import app

if __name__ == "__main__":
    app(["bench", "inference", *sys.argv[1:]])
