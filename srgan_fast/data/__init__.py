"""Pictures and training data: reading, writing, resizing, cropping. Knows no torch."""
