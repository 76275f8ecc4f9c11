#!/usr/bin/env bash
# What to run on a rented GPU, in fifteen minutes, most important first; nothing here needs a network.
#
# usage: tools/gpu_session.sh [FOLDER]        (default: gpu-session; run from a checkout)
#
# It expects Python 3.12 with torch 2.11 and NumPy, a C++20 compiler and nvcc 13. What else is missing is installed from
# WHEELS, a folder that was filled before, with the same Python, by
#     pip download -d wheels --only-binary :all: typer rich pydantic safetensors 'pyvips[binary]' tensorboard pytest \
#         hypothesis pybind11 cmake ninja
# Each step has a time limit, and its output, exit status and seconds are kept in FOLDER; one that fails or is ended does
# not keep the others from running. The exit status is 1 if one of them failed.
#
#     PYTHON   interpreter (python3)
#     WHEELS   folder of wheels (wheels); no packages are installed if it does not exist
#     LEFT_S   seconds for everything (870)
set -u

out=$(mkdir -p "${1:-gpu-session}" && cd "${1:-gpu-session}" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
wheels=${WHEELS:-wheels}
left=${LEFT_S:-870}
cd "$root" || exit 1

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export SRGAN_FAST_CACHE="$out/cache"  # nothing that another machine left
export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
began=$SECONDS
failed=0

# step NAME SECONDS COMMAND...: runs it with a limit, no longer than what is left for all.
step() {
    local name=$1 limit=$2 rest=$((left - SECONDS + began)) status from=$SECONDS
    shift 2
    if [ "$rest" -lt 5 ]; then
        echo "$name: left out, no time" | tee -a "$out/summary.txt"
        failed=1
        return
    fi
    [ "$limit" -lt "$rest" ] || limit=$rest
    echo "== $name (at most $limit s): $*"
    timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1
    status=$?
    [ $status -eq 0 ] || failed=1
    [ $status -ne 124 ] || echo "(ended after $limit s)" >>"$out/$name.log"
    echo "$name: status $status, $((SECONDS - from)) s" | tee -a "$out/summary.txt"
    tail -n 3 "$out/$name.log"
}

: >"$out/summary.txt"
step machine 20 bash -c 'nvidia-smi; nvcc --version; '"$python"' -c "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())"'
[ ! -d "$wheels" ] || step packages 60 "$python" -m pip install --find-links "$wheels" \
    typer rich pydantic safetensors 'pyvips[binary]' tensorboard pytest hypothesis pybind11 cmake ninja

# The kernels for this GPU alone: a tenth of the time that all architectures take.
architecture=$("$python" -c 'import torch; a, b = torch.cuda.get_device_capability(); print(f"{a}{b}" + ("a" if a == 9 else "") + "-real")' 2>>"$out/machine.log")
step configure 60 cmake -S . -B "$out/build" -G Ninja -DSRGAN_FAST_ISAS=native "-DSRGAN_FAST_CUDA_ARCHITECTURES=$architecture" "-DPython_EXECUTABLE=$(command -v "$python")"
step build 240 cmake --build "$out/build"
step install 30 cmake --install "$out/build" --prefix "$root"

step self-test 60 "$python" -c '
import torch
from srgan_fast.ops import cuda
problems = [cuda.problem_of(torch.device("cuda", 0), rerun=True, float32=float32) for float32 in (False, True)]
print(problems)
raise SystemExit(any(problems))'

step bench-gpu 180 "$python" -m srgan_fast bench gpu --quick --json "$out/gpu.json" --html "$out/gpu.html"

step tests 240 "$python" -m pytest -q -p no:cacheprovider -k "cuda or graphs or gpu or recording" \
    tests/ops tests/training/test_graphs.py tests/training/test_fused.py tests/training/test_recording.py \
    tests/runtime/test_cuda_backend.py tests/runtime/test_cuda_network.py tests/bench/test_gpu.py

step profile 60 "$python" -c '
import runpy, sys, tempfile
from pathlib import Path
from srgan_fast.training.trial import made_up_images
out, folder = sys.argv[1], Path(tempfile.mkdtemp())
made_up_images(folder)
config = folder / "step.toml"
config.write_text(f"[data]\ntrain = \"{folder}\"\n[gan]\nsteps = 30\n[gan.features]\nweights = \"random\"\n[run]\nprecision = \"bf16\"\n")
sys.argv = ["profile_step.py", str(config), "--trace", f"{out}/step-trace.json"]
runpy.run_path("tools/profile_step.py", run_name="__main__")' "$out"

# Last: each tool takes minutes, and the first two find the most.
for tool in racecheck memcheck synccheck initcheck; do
    step "sanitizer-$tool" 200 "$python" -c '
import sys, torch
from srgan_fast.ops import sanitizer
sanitizer.TOOLS = (sys.argv[1],)
(found,) = sanitizer.sanitize(torch.device("cuda", 0), 190.0)
print(found)
raise SystemExit(found.status in ("errors", "failed"))' "$tool"
done

echo "everything is in $out:"
cat "$out/summary.txt"
exit $failed
