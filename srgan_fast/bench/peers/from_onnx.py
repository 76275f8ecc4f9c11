"""Peers that read ONNX with fixed shapes, which lets runtimes optimise more than dynamic ones."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from srgan_fast.bench.candidates import Loaded, RowJob
from srgan_fast.bench.worker import how_it_ended
from srgan_fast.data.calibration import calibration_images
from srgan_fast.errors import BackendError
from srgan_fast.files import atomic_write
from srgan_fast.runtime.protocol import FloatImages


def fixed_onnx(job: RowJob) -> Path:
    """The ONNX file for the job's shape, written on first use."""
    path = job.shape_folder / "fixed.onnx"
    if not path.exists():
        from srgan_fast.network.onnx_graph import build_onnx  # noqa: PLC0415 (onnx; loading a prepared row needs none)

        model = build_onnx(job.file.network, job.file.name)
        for value, factor in ((model.graph.input[0], 1), (model.graph.output[0], job.file.scale)):
            batch, channels, height, width = job.shape
            shape = (batch, channels, height * factor, width * factor)
            for dim, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = length
        with atomic_write(path) as file:
            file.write(model.SerializeToString())
    return path


def _floats(sr: Any) -> FloatImages:
    return np.array(sr, np.float32)


def _run_python(what: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BackendError(f"{what} {how_it_ended(done.returncode, done.stderr.strip() or done.stdout)}")


# --- ONNX Runtime's CPU provider


def cpu_session(graph: str | bytes, threads: int) -> Any:
    """A session for a file or its content, with all graph optimisations, the default."""
    import onnxruntime as ort  # noqa: PLC0415 (each row's process imports its own runtime only)

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def load_onnxruntime(job: RowJob, row: str, lr: FloatImages) -> Loaded:
    """See `cpu_session`."""
    session = cpu_session(str(fixed_onnx(job)), job.workload.threads)

    def run() -> Any:
        return session.run(None, {"lr": lr})[0]

    return Loaded(run, _floats, caller=lambda: run)  # sessions are thread-safe


# --- OpenVINO: f32, bf16, and int8 by NNCF's post-training quantisation. The precision is always set explicitly: by
# default OpenVINO runs an fp32 model in bf16 where the CPU supports it.


def quantise_openvino(job: RowJob) -> None:
    """Writes the quantised model, for all shapes."""
    target = job.folder / "int8.xml"
    if target.exists():
        return
    import nncf  # noqa: PLC0415
    import openvino as ov  # noqa: PLC0415

    from srgan_fast.network.onnx_graph import build_onnx  # noqa: PLC0415

    free = job.folder / "free.onnx"
    free.write_bytes(build_onnx(job.file.network, job.file.name).SerializeToString())
    images = calibration_images(job.calibration)
    data = nncf.Dataset(images, lambda lr: {"lr": lr})
    ov.save_model(nncf.quantize(ov.Core().read_model(free), data, subset_size=len(images)), target)


def openvino_lacks_bf16() -> str | None:
    """Why its bf16 is not worth measuring on this CPU; None if it is."""
    from srgan_fast.runtime.openvino_backend import computes  # noqa: PLC0415

    return None if computes("bf16") else _other_precision("f32", "bf16")


def _other_precision(used: str, asked: str) -> str:
    return f"OpenVINO computes in {used} on this CPU, not in {asked}"


def load_openvino(job: RowJob, row: str, lr: FloatImages) -> Loaded:
    """A model compiled for latency, with a request that reads the input in place."""
    import openvino as ov  # noqa: PLC0415

    core = ov.Core()
    quantised = row.endswith("int8")
    model = core.read_model(job.folder / "int8.xml" if quantised else fixed_onnx(job))
    if quantised:
        model.reshape(list(job.shape))
    hint = "bf16" if row.endswith("bf16") else "f32"
    threads = job.workload.threads
    settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = core.compile_model(model, "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != hint:
        raise BackendError(_other_precision(used, hint))

    def caller() -> Callable[[], Any]:
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(lr, shared_memory=True))

        def run() -> Any:
            request.infer()
            return request.get_output_tensor()

        return run

    return Loaded(caller(), lambda tensor: _floats(tensor.data), caller=caller)


# --- MNN, which runs 3x3 convolutions by Winograd's algorithm

# Not `MNN.tools.mnnconvert`: importing it installs a package with pip, and it reports each conversion to a server with
# an identifier of the machine. This is the converter that it calls.
_CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(sys.argv)"


def convert_to_mnn(job: RowJob) -> None:
    """Converts the graph with MNN's converter."""
    source, target = fixed_onnx(job), job.shape_folder / "fixed.mnn"
    arguments = ["-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "srgan_fast"]
    _run_python("MNN's converter", "-c", _CONVERT, *arguments)


def load_mnn(job: RowJob, row: str, lr: FloatImages) -> Loaded:
    """A module in high precision (fp32; "normal" may be fp16 or bf16); reading the result triggers the computation."""
    from MNN import expr, nn  # noqa: PLC0415

    settings = {"backend": "CPU", "numThread": job.workload.threads, "precision": "high"}
    manager = nn.create_runtime_manager((settings,))
    net = nn.load_module_from_file(str(job.shape_folder / "fixed.mnn"), ["lr"], ["sr"], runtime_manager=manager)
    image = expr.const(lr, list(lr.shape), expr.NCHW)
    return Loaded(lambda: expr.convert(net.forward([image])[0], expr.NCHW).read(), _floats)


# --- OpenCV's DNN module, which runs 3x3 convolutions by Winograd's algorithm where there is AVX


def load_opencv(job: RowJob, row: str, lr: FloatImages) -> Loaded:
    """A net with OpenCV's own engine and default settings."""
    import cv2  # noqa: PLC0415

    cv2.setNumThreads(job.workload.threads)
    net = cv2.dnn.readNetFromONNX(str(fixed_onnx(job)))

    def run() -> Any:
        net.setInput(lr)  # part of every run: a net does not keep its input
        return net.forward()

    return Loaded(run, _floats)


# --- IREE: compiled ahead of time for this processor, run on a thread pool


def compile_iree(job: RowJob) -> None:
    """Imports the graph and compiles it, which takes minutes for large networks."""
    from iree import compiler  # noqa: PLC0415

    source, target = job.shape_folder / "spelled_out.onnx", job.shape_folder / "model.mlir"
    source.write_bytes(_without_depth_to_space(fixed_onnx(job)))
    # Opset 17 is the lowest that all of IREE's lowerings of our operators support.
    arguments = [str(source), "-o", str(target), "--opset-version", "17"]
    _run_python("IREE's importer", "-m", "iree.compiler.tools.import_onnx", *arguments)
    compiler.compile_file(
        str(target),
        output_file=str(job.shape_folder / "model.vmfb"),
        target_backends=["llvm-cpu"],
        input_type="onnx",
        extra_args=["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"],
    )


def _without_depth_to_space(path: Path) -> bytes:
    """The graph with pixel shuffles as Reshape and Transpose: IREE 3.13 computes DepthToSpace mode CRD as DCR."""
    import onnx  # noqa: PLC0415

    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    shapes = {v.name: [dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type != "DepthToSpace":
            model.graph.node.append(node)
            continue
        n, c, h, w = shapes[node.input[0]]
        name, r = node.output[0], next(each.i for each in node.attribute if each.name == "blocksize")
        sizes = {f"{name}.split": (n, c // r**2, r, r, h, w), f"{name}.size": (n, c // r**2, h * r, w * r)}
        model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in sizes.items())
        first, second, make = f"{name}.parts", f"{name}.turned", onnx.helper.make_node
        split = make("Reshape", [node.input[0], f"{name}.split"], [first])
        turned = make("Transpose", [first], [second], perm=[0, 1, 4, 2, 5, 3])
        model.graph.node.extend((split, turned, make("Reshape", [second, f"{name}.size"], [name])))
    return cast(bytes, model.SerializeToString())


def load_iree(job: RowJob, row: str, lr: FloatImages) -> Loaded:
    """A function of the compiled module, with its input in device memory."""
    from iree import runtime  # noqa: PLC0415

    runtime.flags.parse_flags(f"--task_topology_group_count={job.workload.threads}")
    config = runtime.Config("local-task")
    file = str(job.shape_folder / "model.vmfb")
    module = runtime.load_vm_module(runtime.VmModule.mmap(config.vm_instance, file), config)
    (name,) = (n for n in module.vm_module.function_names if not n.startswith("__") and "$" not in n)
    image = runtime.asdevicearray(config.device, lr)
    return Loaded(lambda: module[name](image).to_host(), _floats)
