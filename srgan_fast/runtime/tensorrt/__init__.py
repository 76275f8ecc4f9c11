"""NVIDIA's TensorRT and TensorRT-RTX: engines are built from ONNX graphs, stored in files, and run on a GPU."""
