"""NVIDIA's TensorRT and TensorRT-RTX: engines are built from ONNX graphs, kept in files, and run on a GPU."""
