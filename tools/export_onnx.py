"""Runs `srgan-fast export onnx` from a checkout.

usage: python tools/export_onnx.py [options of `srgan-fast export onnx`; --help lists them]
"""

import sys

from srgan_fast.cli.app import app

if __name__ == "__main__":
    app(["export", "onnx", *sys.argv[1:]])
