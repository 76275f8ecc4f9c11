// Python module `srgan_fast._engine`: checks every argument, releases the GIL, runs the engine.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace py = pybind11;

namespace srgan_fast::engine {
namespace {

// Far above any picture, far below where 64-bit byte counts would overflow.
constexpr std::int64_t kMaxSide = 1 << 20;

using FloatArray = py::array_t<float, py::array::c_style>;

std::string shape_of(const py::array& a) { return py::str(a.attr("shape")).cast<std::string>(); }

std::span<const float> values(const FloatArray& array) {
    return {array.data(), static_cast<std::size_t>(array.size())};
}

// A convolution as Python gives it: (name, inputs, weight, bias, slope or None, residuals, shuffle), see
// srgan_fast/network/graph.py. The arrays live as long as the caller's list.
PlainConv plain_conv(const py::handle& layer) {
    const auto parts = layer.cast<py::tuple>();
    if (parts.size() != 7)
        throw py::value_error("a layer must be a tuple (name, inputs, weight, bias, slope, residuals, shuffle)");
    PlainConv conv;
    conv.name = parts[0].cast<std::string>();
    for (std::size_t i = 2; i < 5; ++i) {
        const py::object part = parts[i];
        if (!(i == 4 && part.is_none()) && !FloatArray::check_(part))
            throw py::type_error(conv.name + " must hold C-contiguous float32 arrays");
    }
    const auto weight = parts[2].cast<FloatArray>(), bias = parts[3].cast<FloatArray>();
    if (weight.ndim() != 4 || weight.shape(2) != weight.shape(3))
        throw py::value_error(conv.name + ": weight must have shape (out, in, k, k), got " + shape_of(weight));
    conv.inputs = parts[1].cast<std::vector<std::int64_t>>();
    conv.out_channels = weight.shape(0);
    conv.in_channels = weight.shape(1);
    conv.size = weight.shape(2);
    conv.weight = values(weight);
    conv.bias = values(bias);
    if (!parts[4].is_none()) {
        const auto slope = parts[4].cast<FloatArray>();
        if (slope.size() == 0) throw py::value_error(conv.name + ": slope is empty");
        conv.slope = values(slope);
    }
    for (const auto& [value, scale] : parts[5].cast<std::vector<std::pair<std::int64_t, float>>>())
        conv.residuals.push_back({value, scale});
    conv.shuffle = parts[6].cast<std::int64_t>();
    return conv;
}

Skip skip_of(const std::string& name) {
    if (name == "none") return Skip::kNone;
    if (name == "nearest") return Skip::kNearest;
    if (name == "bilinear") return Skip::kBilinear;
    throw py::value_error("skip must be 'none', 'nearest' or 'bilinear', got '" + name + "'");
}

using Colours = std::vector<float>;

ColourMap colour_map(const std::pair<Colours, Colours>& map, std::int64_t channels) {
    ColourMap result;
    if (std::ssize(map.first) != channels || std::ssize(map.second) != channels || channels > kMaxImageChannels)
        throw py::value_error("a colour map must have a gain and an offset for each of 1 to 4 channels");
    std::ranges::copy(map.first, result.gain.begin());
    std::ranges::copy(map.second, result.offset.begin());
    return result;
}

// What Python holds. Python can make an object without initialising it; this one then is empty and says so.
struct Handle {
    std::unique_ptr<Engine> engine;

    static void* operator new(std::size_t size) {
        if (void* const memory = std::calloc(1, size)) return memory;
        throw std::bad_alloc();
    }
    static void operator delete(void* memory) { std::free(memory); }

    Engine& get() const {
        if (!engine) throw py::type_error("the engine was never initialised");
        return *engine;
    }
};

std::unique_ptr<Handle> make_engine(const py::sequence& layers, std::int64_t channels, std::int64_t unshuffle,
                                    const std::string& skip, const std::pair<Colours, Colours>& input,
                                    const std::pair<Colours, Colours>& output, bool tanh, const std::string& precision,
                                    int threads) {
    if (precision != "fp32" && precision != "bf16")
        throw py::value_error("precision must be 'fp32' or 'bf16', got '" + precision + "'");
    Network network;
    for (const auto& layer : layers) network.convs.push_back(plain_conv(layer));
    network.channels = channels;
    network.unshuffle = unshuffle;
    network.skip = skip_of(skip);
    network.input = colour_map(input, channels);
    network.output = colour_map(output, channels);
    network.tanh = tanh;
    const cpu::Isa isa = cpu::choose_isa();
    const py::gil_scoped_release release;
    return std::unique_ptr<Handle>(new Handle{
        std::make_unique<Engine>(network, precision == "bf16" ? Precision::kBf16 : Precision::kFp32, isa, threads)});
}

std::optional<cpu::PixelType> pixel_type(const py::array& array) {
    if (array.dtype().equal(py::dtype::of<std::uint8_t>())) return cpu::PixelType::kUint8;
    if (array.dtype().equal(py::dtype::of<std::uint16_t>())) return cpu::PixelType::kUint16;
    if (array.dtype().equal(py::dtype::of<float>())) return cpu::PixelType::kFloat;
    return {};
}

void check_size(std::int64_t height, std::int64_t width) {
    if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide)
        throw py::value_error("an image must have 1 to " + std::to_string(kMaxSide) + " pixels a side, got " +
                              std::to_string(height) + " x " + std::to_string(width));
}

// Integers (H, W, C) or float (C, H, W); the result is a new array of the same kind.
py::array run(const Handle& handle, const py::array& image, const py::object& progress) {
    Engine& engine = handle.get();
    const auto type = pixel_type(image);
    if (!type)
        throw py::type_error("image must be uint8, uint16 or float32, got " +
                             py::str(image.dtype()).cast<std::string>());
    const bool planes = *type == cpu::PixelType::kFloat;
    const std::int64_t channels = engine.model().channels();
    if (image.ndim() != 3 || image.shape(planes ? 0 : 2) != channels) {
        const std::string count = std::to_string(channels);
        throw py::value_error("image must have shape " + (planes ? "(" + count + ", H, W)" : "(H, W, " + count + ")") +
                              ", got " + shape_of(image));
    }
    const std::int64_t height = image.shape(planes ? 1 : 0), width = image.shape(planes ? 2 : 1);
    check_size(height, width);
    // The engine wants dense, aligned pixels; other views are copied.
    const auto dense = py::module_::import("numpy").attr("ascontiguousarray")(image).cast<py::array>();
    const auto aligned = reinterpret_cast<std::uintptr_t>(dense.data()) % image.itemsize() == 0
                             ? dense
                             : py::array(dense.attr("copy")());
    const std::int64_t scale = engine.model().scale();
    std::vector<py::ssize_t> shape{scale * height, scale * width};
    shape.insert(planes ? shape.begin() : shape.end(), channels);
    py::array result(image.dtype(), shape);
    const ImageIn in{*type, aligned.data(), height, width};
    void* const out = result.mutable_data();
    std::optional<py::error_already_set> raised;
    Progress report = [&](std::int64_t rows) {
        const py::gil_scoped_acquire acquire;
        try {
            if (PyErr_CheckSignals() != 0) throw py::error_already_set();
            if (!progress.is_none()) progress(rows);
        } catch (py::error_already_set& error) {
            raised.emplace(error);
        }
        return !raised;
    };
    {
        const py::gil_scoped_release release;
        engine.run(in, out, report);
    }
    if (raised) throw *raised;
    return result;
}

cpu::PixelType integer_type(const py::dtype& dtype) {
    if (dtype.equal(py::dtype::of<std::uint8_t>())) return cpu::PixelType::kUint8;
    if (dtype.equal(py::dtype::of<std::uint16_t>())) return cpu::PixelType::kUint16;
    throw py::type_error("rows must be uint8 or uint16, got " + py::str(dtype).cast<std::string>());
}

// `read(first, rows)` gives rows of the image, (rows, W, C); `write(first, pixels)` takes rows of the result.
void run_rows(const Handle& handle, std::int64_t height, std::int64_t width, const py::dtype& dtype,
              const py::object& read, const py::object& write) {
    Engine& engine = handle.get();
    const cpu::PixelType type = integer_type(dtype);
    check_size(height, width);
    const std::int64_t channels = engine.model().channels(), columns = engine.model().scale() * width;
    std::optional<py::error_already_set> raised;
    py::array held;  // rows that the engine reads
    // Calls Python; false where it raised something.
    const auto ask = [&](const auto& call) {
        try {
            if (PyErr_CheckSignals() != 0) throw py::error_already_set();
            call();
        } catch (py::error_already_set& error) {
            raised.emplace(error);
        }
        return !raised;
    };
    const ReadRows read_rows = [&](std::int64_t first, std::int64_t rows) -> const void* {
        const py::gil_scoped_acquire acquire;
        const bool fine = ask([&] {
            const auto given = read(first, rows).cast<py::array>();
            if (given.ndim() != 3 || given.shape(0) != rows || given.shape(1) != width || given.shape(2) != channels ||
                !given.dtype().equal(dtype)) {
                const std::string wanted = "(" + std::to_string(rows) + ", " + std::to_string(width) + ", " +
                                           std::to_string(channels) + ") of " + py::str(dtype).cast<std::string>();
                PyErr_SetString(PyExc_ValueError, ("rows must have shape " + wanted + ", got " + shape_of(given) +
                                                   " of " + py::str(given.dtype()).cast<std::string>())
                                                      .c_str());
                throw py::error_already_set();
            }
            held = py::module_::import("numpy").attr("ascontiguousarray")(given).cast<py::array>();
        });
        return fine ? held.data() : nullptr;
    };
    const WriteRows write_rows = [&](const void* pixels, std::int64_t first, std::int64_t rows) {
        const py::gil_scoped_acquire acquire;
        return ask([&] { write(first, py::array(dtype, {rows, columns, channels}, pixels)); });
    };
    {
        const py::gil_scoped_release release;
        engine.run_rows(type, height, width, read_rows, write_rows);
    }
    if (raised) throw *raised;
}

}  // namespace
}  // namespace srgan_fast::engine

PYBIND11_MODULE(_engine, m) {
    using srgan_fast::engine::Engine;
    using srgan_fast::engine::Handle;
    namespace cpu = srgan_fast::cpu;
    m.doc() = "The native CPU engine of srgan_fast.";
    m.def(
        "isas",
        [] {
            std::vector<std::string> names;
            for (const cpu::Isa isa : cpu::usable_isas()) names.emplace_back(cpu::isa_name(isa));
            return names;
        },
        "Names of the instruction sets that can be used here, lowest first.");
    m.def(
        "isa", [] { return std::string(cpu::isa_name(cpu::choose_isa())); },
        "The instruction set that a new engine uses; SRGAN_FAST_ISA names another.");
    py::class_<Handle>(m, "Engine")
        .def(py::init(&srgan_fast::engine::make_engine), py::kw_only(), py::arg("layers"), py::arg("channels"),
             py::arg("unshuffle"), py::arg("skip"), py::arg("input_map"), py::arg("output_map"), py::arg("tanh"),
             py::arg("precision"), py::arg("threads"))
        .def(
            "sibling",
            [](const Handle& e, int threads) {
                Engine& engine = e.get();
                const py::gil_scoped_release release;
                return std::unique_ptr<Handle>(new Handle{std::make_unique<Engine>(engine, threads)});
            },
            py::arg("threads"), "Another engine with threads of its own that shares the weights.")
        .def_property_readonly("isa",
                               [](const Handle& e) { return std::string(cpu::isa_name(e.get().model().level().isa)); })
        .def_property_readonly("scale", [](const Handle& e) { return e.get().model().scale(); })
        .def_property_readonly("weight_bytes", [](const Handle& e) { return e.get().model().weight_bytes(); })
        .def_property_readonly("threads", [](const Handle& e) { return e.get().threads(); })
        .def(
            "working_memory",
            [](const Handle& e, std::int64_t height, std::int64_t width) {
                srgan_fast::engine::check_size(height, width);
                Engine& engine = e.get();
                const py::gil_scoped_release release;
                return engine.working_memory(height, width);
            },
            py::arg("height"), py::arg("width"))
        .def(
            "peak",
            [](const Handle& e) {
                Engine& engine = e.get();
                const py::gil_scoped_release release;
                return engine.peak();
            },
            "fp32 multiply-adds a second of the engine's threads at most.")
        .def(
            "layer_times",
            [](const Handle& e) {
                Engine& engine = e.get();
                std::vector<std::tuple<std::string, double, double>> times;
                const py::gil_scoped_release release;
                for (const auto& t : engine.layer_times()) times.emplace_back(t.layer, t.seconds, t.multiply_adds);
                return times;
            },
            "Of the last finished run: layers, seconds, multiply-adds of their direct convolution.")
        .def("run", &srgan_fast::engine::run, py::arg("image"), py::arg("progress") = py::none())
        .def("run_rows", &srgan_fast::engine::run_rows, py::kw_only(), py::arg("height"), py::arg("width"),
             py::arg("dtype"), py::arg("read"), py::arg("write"),
             "Upscales an image that comes and goes in rows: read(first, rows) gives (rows, W, C) pixels, each row "
             "once, and write(first, pixels) takes rows of the result, both from top to bottom.")
        .def(
            "rows_memory",
            [](const Handle& e, std::int64_t height, std::int64_t width, const py::dtype& dtype) {
                srgan_fast::engine::check_size(height, width);
                Engine& engine = e.get();
                const cpu::PixelType type = srgan_fast::engine::integer_type(dtype);
                const py::gil_scoped_release release;
                return engine.working_memory(height, width) + engine.rows_memory(type, height, width);
            },
            py::kw_only(), py::arg("height"), py::arg("width"), py::arg("dtype"),
            "Bytes that run_rows takes besides the rows that it is given.");
}
