"""Engine files; a JSON file beside each says what it was built from, and an engine that does not match is never run."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srgan_fast.errors import BackendError, FileError
from srgan_fast.files import atomic_write
from srgan_fast.runtime.tensorrt.builder import BuildOptions, BuiltEngine
from srgan_fast.runtime.tensorrt.flavour import Library
from srgan_fast.runtime.tensorrt.shapes import Profile, Shape

SCHEMA = "srgan_fast.engine/1"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on.

    Attributes:
        graph: SHA-256 of the ONNX model.
        precision: of the convolutions.
        least: smallest shape of its profile, such as 1x3x1x1.
        usual: shape that it is optimised for.
        largest: largest shape.
        library: TensorRT or TensorRT-RTX.
        version: library version.
        device: GPU or compute capabilities that it was built for.
        options: other build options that differ from their defaults, as `name=value`.
    """

    graph: str
    precision: str
    least: str
    usual: str
    largest: str
    library: str
    version: str
    device: str
    options: str = ""

    @property
    def digest(self) -> str:
        """Short hash of all values, used in names of cache files."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


def engine_key(library: Library, graph: bytes, precision: str, options: BuildOptions, device: str) -> EngineKey:
    """The key of an engine to be built."""
    profile = options.profile
    return EngineKey(
        graph=hashlib.sha256(graph).hexdigest(),
        precision=precision,
        least=str(profile.least),
        usual=str(profile.usual),
        largest=str(profile.largest),
        library=library.flavour.name,
        version=library.version,
        device=device,
        options=_beyond_defaults(options),
    )


def _beyond_defaults(options: BuildOptions) -> str:
    """Without the profile, which has its own fields, and the timing cache, which only affects the build time."""
    usual = asdict(BuildOptions())
    asked = {name: value for name, value in asdict(options).items() if name not in ("profile", "timing_cache")}
    return " ".join(f"{name}={value}" for name, value in asked.items() if value != usual[name])


def sidecar(engine: Path) -> Path:
    """Path of the JSON file beside an engine."""
    return engine.with_name(f"{engine.name}.json")


def write_engine(path: Path, built: BuiltEngine, key: EngineKey) -> None:
    """Writes an engine and its JSON file; `read_engine` detects an interruption between the two.

    Raises:
        FileError: the folder is not writable or the disk is full; no partial files are left.
    """
    about = {
        "schema": SCHEMA,
        "built_from": asdict(key),
        "engine": {"sha256": hashlib.sha256(built.data).hexdigest(), "bytes": len(built.data)},
        "layers": [asdict(layer) for layer in built.layers],
    }
    with atomic_write(path) as file:
        file.write(built.data)
    try:
        with atomic_write(sidecar(path)) as file:
            file.write((json.dumps(about, indent=2) + "\n").encode())
    except FileError:
        path.unlink(missing_ok=True)  # useless without it
        raise


def read_engine(path: Path, key: EngineKey | None = None) -> tuple[bytes, EngineKey]:
    """Reads an engine and its key.

    Args:
        path: of the engine.
        key: expected key; None to accept any.

    Raises:
        BackendError: missing, damaged, or built from something else; the message says which.
    """
    try:
        data = path.read_bytes()
        about = json.loads(sidecar(path).read_text(encoding="utf-8"))
        found = EngineKey(**about["built_from"])
        sha256 = about["engine"]["sha256"]
        schema = about["schema"]
    except OSError as error:
        raise BackendError(f"{error.filename}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise BackendError(f"{sidecar(path)}: is not a description of a srgan_fast engine") from None
    if schema != SCHEMA:
        raise BackendError(f"{sidecar(path)}: is of {schema!r}, not {SCHEMA!r}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BackendError(f"{path}: is damaged, or the JSON file beside it belongs to another engine")
    if key is not None and found != key:
        differing = [
            f"{name} {getattr(found, name)} instead of {getattr(key, name)}"
            for name in asdict(key)
            if getattr(found, name) != getattr(key, name)
        ]
        raise BackendError(f"{path}: was built for {'; '.join(differing)}")
    return data, found


def profile_of(key: EngineKey) -> Profile:
    """Shapes that an engine accepts."""

    def shape(text: str) -> Shape:
        count, _, height, width = (int(number) for number in text.split("x"))
        return Shape(count, height, width)

    return Profile(shape(key.least), shape(key.usual), shape(key.largest))


def read_layers(path: Path) -> list[dict[str, Any]]:
    """Layers of the network that an engine was built from, as saved by `write_engine`.

    Raises:
        BackendError: see `read_engine`.
    """
    read_engine(path)
    layers: list[dict[str, Any]] = json.loads(sidecar(path).read_text(encoding="utf-8"))["layers"]
    return layers
