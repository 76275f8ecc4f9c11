"""Exports a generator to ONNX: `srgan-fast export onnx` for those who work from a checkout.

usage: python tools/export_onnx.py [options as of `srgan-fast export onnx`; --help lists them]
"""

import sys

from srgan_fast.cli.app import app

if __name__ == "__main__":
    app(["export", "onnx", *sys.argv[1:]])
