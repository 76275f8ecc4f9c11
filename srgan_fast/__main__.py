"""`python -m srgan_fast`."""

from srgan_fast.cli import main

main()
