"""What is inside image files, one subject a module; the rest of the package imports from `srgan_fast.data.images`."""
