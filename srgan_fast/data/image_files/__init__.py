"""Image file formats, one topic per module; the rest of the package imports from `srgan_fast.data.images`."""
