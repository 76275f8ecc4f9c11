"""Measures a training step beside stock PyTorch's: `srgan-fast bench training` for those who work from a checkout.

usage: python tools/bench_training.py [options as of `srgan-fast bench training`; --help lists them]
"""

import sys

from srgan_fast.cli.app import app

if __name__ == "__main__":
    app(["bench", "training", *sys.argv[1:]])
