// A GPU as Python sees it: what rudder._cuda opens, or a simulated one, made into what a prefetcher uses.
#include <memory>
#include <string>

#include "common/error.h"
#include "cuda/device.h"
#include "cuda/simulated.h"
#include "register.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using rudder::cuda::Device;
using rudder::cuda::Runtime;
using rudder::cuda::Simulated;
using Released = py::call_guard<py::gil_scoped_release>;

std::uintptr_t as_number(void* handle) { return reinterpret_cast<std::uintptr_t>(handle); }
void* as_handle(std::uintptr_t number) {
  return reinterpret_cast<void*>(number);  // NOLINT(performance-no-int-to-ptr): a handle, as Python has it
}

Simulated::Mode mode_of(const std::string& name) {
  if (name == "eager") return Simulated::Mode::kEager;
  if (name == "manual") return Simulated::Mode::kManual;
  if (name == "thread") return Simulated::Mode::kThread;
  throw rudder::Error(rudder::ErrorCode::kConfig, "mode \"" + name + "\": use eager, manual or thread");
}

}  // namespace

void register_gpu(py::module_& m) {
  py::class_<Runtime, std::shared_ptr<Runtime>>(m, "GpuRuntime")
      .def_property_readonly("name", &Runtime::name)
      .def(
          "make_stream", [](Runtime& self) { return as_number(self.make_stream()); }, Released())
      .def(
          "destroy_stream", [](Runtime& self, std::uintptr_t stream) { self.destroy(as_handle(stream)); },
          "stream"_a, Released());
  py::class_<Simulated, Runtime, std::shared_ptr<Simulated>>(m, "SimulatedGpu")
      .def(py::init([](const std::string& mode, std::size_t memory_bytes, std::uint32_t seed) {
             return std::make_shared<Simulated>(mode_of(mode), memory_bytes, seed);
           }),
           py::kw_only(), "mode"_a = "eager", "memory_bytes"_a = 0, "seed"_a = 1)
      .def(
          "inject",
          [](Simulated& self, std::string refuse_pinning, std::string refuse_read_only, std::string fail) {
            self.inject({std::move(refuse_pinning), std::move(refuse_read_only), std::move(fail)});
          },
          py::kw_only(), "refuse_pinning"_a = "", "refuse_read_only"_a = "", "fail"_a = "")
      .def("step", py::overload_cast<>(&Simulated::step), Released())
      .def("run", &Simulated::run, Released())
      .def_property_readonly("launches", &Simulated::launches)
      .def_property_readonly("waits", &Simulated::waits)
      .def_property_readonly("allocated", &Simulated::allocated)
      .def_property_readonly("registered", &Simulated::registered);
  py::class_<Device, std::shared_ptr<Device>>(m, "Gpu")
      .def(py::init([](std::shared_ptr<Runtime> runtime) { return Device::make(std::move(runtime)); }),
           "runtime"_a)
      .def_property_readonly("name", &Device::name);
}
