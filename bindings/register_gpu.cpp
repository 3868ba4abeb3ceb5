// A GPU as Python sees it: what rudder._cuda opens, or a simulated one, made into what a prefetcher uses.
#include <memory>
#include <string>

#include "arrays.h"
#include "common/error.h"
#include "cuda/device.h"
#include "cuda/probe.h"
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

using rudder::cuda::GatherProbe;

GatherProbe::Tier tier_of(const std::string& name) {
  if (name == "device") return GatherProbe::Tier::kDevice;
  if (name == "pinned") return GatherProbe::Tier::kPinned;
  if (name == "pageable") return GatherProbe::Tier::kPageable;
  if (name == "mixed") return GatherProbe::Tier::kMixed;
  throw rudder::Error(rudder::ErrorCode::kConfig,
                      "tier \"" + name + "\": use device, pinned, pageable or mixed");
}

void register_probe_of(py::module_& m) {
  py::class_<GatherProbe>(m, "GatherProbe")
      .def(py::init([](std::shared_ptr<Device> gpu, const py::array& rows, std::size_t threads) {
             const arrays::Rows table = arrays::rows(rows, "rows");
             const py::gil_scoped_release release;
             return std::make_unique<GatherProbe>(std::move(gpu), table.data, table.count, table.row_bytes,
                                                  threads);
           }),
           "gpu"_a, "rows"_a, "threads"_a = 1, py::keep_alive<1, 3>())
      .def(
          "gather",
          [](GatherProbe& self, const std::string& tier, const arrays::Ids& ids, std::uintptr_t data,
             std::uintptr_t stream) {
            const GatherProbe::Tier where = tier_of(tier);
            const std::span<const std::int64_t> wanted(ids.data(), static_cast<std::size_t>(ids.size()));
            const py::gil_scoped_release release;
            self.gather(where, wanted, static_cast<std::byte*>(as_handle(data)), as_handle(stream));
          },
          "tier"_a, "ids"_a, "data"_a, "stream"_a)
      .def(
          "list",
          [](GatherProbe& self, const arrays::Ids& ids, bool wide) {
            const std::span<const std::int64_t> wanted(ids.data(), static_cast<std::size_t>(ids.size()));
            const py::gil_scoped_release release;
            self.list(wanted, wide);
          },
          "ids"_a, "wide"_a)
      .def(
          "gather_listed",
          [](GatherProbe& self, const std::string& tier, std::uintptr_t data, std::uintptr_t stream) {
            self.gather_listed(tier_of(tier), static_cast<std::byte*>(as_handle(data)), as_handle(stream));
          },
          "tier"_a, "data"_a, "stream"_a, Released());
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
            self.inject({.refuse_pinning = std::move(refuse_pinning),
                         .refuse_read_only = std::move(refuse_read_only),
                         .fail = std::move(fail)});
          },
          py::kw_only(), "refuse_pinning"_a = "", "refuse_read_only"_a = "", "fail"_a = "")
      .def(
          "lend",
          [](Simulated& self, std::uintptr_t data, std::size_t bytes) { self.lend(as_handle(data), bytes); },
          "data"_a, "bytes"_a)
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
  register_probe_of(m);
}
