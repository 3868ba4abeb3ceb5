// rudder._cuda: an NVIDIA GPU for rudder._core. A module of its own, so that the core links no CUDA library;
// the runtime is inside it, so it imports where no driver is. Its Python face is described in
// rudder/_cuda.pyi.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "cuda/cudart.h"
#include "cuda/native/calls.h"
#include "register.h"

namespace py = pybind11;

PYBIND11_MODULE(_cuda, m) {
  m.doc() = "NVIDIA GPUs, through the CUDA runtime.";
  py::module_::import("rudder._core");  // has GpuRuntime
  register_errors(m);
  m.attr("version") =
      std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  using Released = py::call_guard<py::gil_scoped_release>;
  using namespace rudder::cuda;
  m.def(
      "why_not",
      [](std::optional<int> number) {
        return number ? why_not_gpu(native_calls(), *number) : why_no_gpu(native_calls());
      },
      py::arg("number") = py::none(), Released());
  m.def("count", [] { return gpu_count(native_calls()); }, Released());
  m.def("open", [](int number) { return open_gpu(native_calls(), number); }, py::arg("number"), Released());
}
