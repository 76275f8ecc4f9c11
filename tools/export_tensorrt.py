"""Runs `srgan-fast export tensorrt` from a checkout.

usage: python tools/export_tensorrt.py [options of `srgan-fast export tensorrt`; --help lists them]
"""

import sys

from srgan_fast.cli.app import app

if __name__ == "__main__":
    app(["export", "tensorrt", *sys.argv[1:]])
