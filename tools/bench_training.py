"""Runs `srgan-fast bench training` from a checkout.

usage: python tools/bench_training.py [options of `srgan-fast bench training`; --help lists them]
"""

import sys

from srgan_fast.cli.app import app

if __name__ == "__main__":
    app(["bench", "training", *sys.argv[1:]])
