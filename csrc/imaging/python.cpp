// Python module `srgan_fast._imaging`: checks every argument, releases the GIL, calls imaging::resize.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "imaging/resize.h"

namespace py = pybind11;

namespace srgan_fast::imaging {
namespace {

// Far above any image, far below where 64-bit element counts would overflow.
constexpr std::int64_t kMaxSide = 1 << 24;

std::string shape_of(const py::array& a) { return py::str(a.attr("shape")).cast<std::string>(); }

template <typename Pixel>
py::array resize_typed(const py::array& image, const Region& region, std::int64_t rows, std::int64_t columns,
                       Edges edges) {
    const auto* data = static_cast<const Pixel*>(image.data());
    const ImageView<Pixel> view{data, image.shape(0), image.shape(1), image.shape(2),
                                image.strides(0) / static_cast<py::ssize_t>(sizeof(Pixel))};
    py::array_t<Pixel> output({rows, columns, view.channels});
    Pixel* out = output.mutable_data();
    {
        py::gil_scoped_release release;
        resize(view, region, rows, columns, edges, out);
    }
    return output;
}

py::array resize_region(py::array image, std::int64_t top, std::int64_t left, std::int64_t height, std::int64_t width,
                        std::int64_t rows, std::int64_t columns, const std::string& edges_name) {
    if (image.ndim() != 3 || image.shape(2) < 1 || image.shape(2) > 4)
        throw py::value_error("image must have shape (H, W, C) with 1 to 4 channels, got " + shape_of(image));
    if (image.size() == 0) throw py::value_error("image is empty, shape " + shape_of(image));
    if (top < 0 || left < 0 || height < 1 || width < 1 || top > image.shape(0) - height ||
        left > image.shape(1) - width)
        throw py::value_error("region (" + std::to_string(top) + ", " + std::to_string(left) + ", " +
                              std::to_string(height) + ", " + std::to_string(width) +
                              ") does not lie inside an image of shape " + shape_of(image));
    if (rows < 1 || columns < 1 || rows > kMaxSide || columns > kMaxSide)
        throw py::value_error("output size must be between 1 and " + std::to_string(kMaxSide) + " pixels a side, got " +
                              std::to_string(rows) + " x " + std::to_string(columns));
    if (edges_name != "mirror" && edges_name != "replicate")
        throw py::value_error("edges must be 'mirror' or 'replicate', got '" + edges_name + "'");
    // The kernels need dense rows of aligned pixels; other arrays (flipped, transposed, channel slices, unaligned
    // buffers) are copied first.
    const py::ssize_t item = image.itemsize();
    if (image.strides(2) != item || image.strides(1) != image.shape(2) * item || image.strides(0) <= 0 ||
        image.strides(0) % item != 0 || reinterpret_cast<std::uintptr_t>(image.data()) % item != 0)
        image = py::array(image.attr("copy")());
    const Region region{top, left, height, width};
    const auto dtype = image.dtype();
    const Edges edges = edges_name == "mirror" ? Edges::kMirror : Edges::kReplicate;
    if (dtype.equal(py::dtype::of<std::uint8_t>()))
        return resize_typed<std::uint8_t>(image, region, rows, columns, edges);
    if (dtype.equal(py::dtype::of<std::uint16_t>()))
        return resize_typed<std::uint16_t>(image, region, rows, columns, edges);
    if (dtype.equal(py::dtype::of<float>())) return resize_typed<float>(image, region, rows, columns, edges);
    throw py::type_error("image must be uint8, uint16 or float32, got " + py::str(dtype).cast<std::string>());
}

}  // namespace
}  // namespace srgan_fast::imaging

PYBIND11_MODULE(_imaging, m) {
    m.doc() = "Pixel operations of srgan_fast: MATLAB-exact antialiased bicubic resize.";
    m.def("resize_region", &srgan_fast::imaging::resize_region, py::arg("image"), py::arg("top"), py::arg("left"),
          py::arg("height"), py::arg("width"), py::arg("rows"), py::arg("columns"), py::arg("edges"));
}
