"""Images and training data: reading, writing, resizing, cropping; does not use torch."""
