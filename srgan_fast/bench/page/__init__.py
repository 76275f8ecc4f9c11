"""Pages of each kind of report, as documents of `srgan_fast.pages`."""
