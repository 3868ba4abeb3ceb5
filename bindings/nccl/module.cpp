// rudder._nccl: rows traded between GPUs. A module of its own that needs neither NCCL nor CUDA to be
// imported: both are opened when an exchange is made. Its Python face is described in rudder/_nccl.pyi.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "common/error.h"
#include "cuda/runtime.h"
#include "register.h"
#include "transport/nccl/cuda_api.h"
#include "transport/nccl/exchange.h"

namespace py = pybind11;

namespace {

using rudder::Error;
using rudder::ErrorCode;
using rudder::nccl::Exchange;
using rudder::nccl::Round;
using rudder::nccl::RoundPtr;
using rudder::nccl::UniqueId;
using Released = py::call_guard<py::gil_scoped_release>;
using Files = std::vector<std::string>;

std::byte* pointer(std::uintptr_t address) {
  return reinterpret_cast<std::byte*>(address);  // NOLINT(performance-no-int-to-ptr): as tensors name theirs
}

std::chrono::nanoseconds seconds(double value) {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(value * 1e9));
}

UniqueId id_of(const py::bytes& bytes) {
  const std::string text = bytes;
  UniqueId id{};
  if (text.size() != sizeof(id.internal))
    throw Error(ErrorCode::kConfig, "an id has " + std::to_string(sizeof(id.internal)) + " bytes, not " +
                                        std::to_string(text.size()));
  std::memcpy(id.internal, text.data(), text.size());
  return id;
}

// The kernel of a GPU's runtime.
Exchange::GatherRows gather_by(std::shared_ptr<rudder::cuda::Runtime> gpu) {
  if (!gpu) return nullptr;
  return [gpu = std::move(gpu)](const std::byte* table, std::span<const std::int64_t> rows,
                                std::size_t row_bytes, std::byte* out, void* stream) {
    using rudder::cuda::From;
    gpu->copy_rows(
        rudder::cuda::rows_by_number(table, row_bytes, From::kInt64, rows.data(), rows.size(), out), stream);
  };
}

const char* name_of(rudder::nccl::Serving serving) {
  using rudder::nccl::Serving;
  if (serving == Serving::kKernel) return "kernel";
  return serving == Serving::kCopies ? "copies" : "processor";
}

void* stream_of(std::uintptr_t handle) { return pointer(handle); }

template <class Id>
RoundPtr start(Exchange& self, const py::array& ids, std::uintptr_t out, std::optional<std::uintptr_t> after,
               bool done) {
  const std::span<const Id> span(static_cast<const Id*>(ids.data()), static_cast<std::size_t>(ids.size()));
  const py::gil_scoped_release release;
  return self.start(span, pointer(out), after ? std::optional(stream_of(*after)) : std::nullopt, done);
}

void register_exchange(py::module_& m) {
  const Exchange::Config defaults;
  py::class_<Round, RoundPtr>(m, "Round")
      .def_property_readonly("finished", &Round::finished)
      .def_property_readonly("all_done", &Round::all_done)
      .def_property_readonly("positions", [](const Round& self) -> py::object {
        if (self.positions().empty()) return py::none();
        return arrays::from(self.positions());
      });
  py::class_<Exchange, std::shared_ptr<Exchange>>(m, "Exchange")
      .def(py::init([](Files nccl_files, Files cuda_files, int device, int rank, std::vector<int> sockets,
                       const py::bytes& id, std::vector<std::int64_t> part_starts, std::size_t row_bytes,
                       std::uintptr_t shard, std::shared_ptr<rudder::cuda::Runtime> gpu, double deadline_s,
                       double grace_s, std::size_t threads, int max_ctas, bool self_by_nccl) {
             Exchange::Config config;
             config.nccl_files = std::move(nccl_files);
             config.cuda_files = std::move(cuda_files);
             config.device = device;
             config.rank = rank;
             config.sockets = std::move(sockets);
             config.id = id_of(id);
             config.part_starts = std::move(part_starts);
             config.row_bytes = row_bytes;
             config.shard = pointer(shard);
             config.gather = gather_by(std::move(gpu));
             config.deadline = seconds(deadline_s);
             config.grace = seconds(grace_s);
             config.threads = threads;
             config.max_ctas = max_ctas;
             config.self_by_nccl = self_by_nccl;
             const py::gil_scoped_release release;
             return std::make_shared<Exchange>(std::move(config));
           }),
           py::kw_only(), py::arg("nccl_files"), py::arg("cuda_files"), py::arg("device"), py::arg("rank"),
           py::arg("sockets"), py::arg("id"), py::arg("part_starts"), py::arg("row_bytes"), py::arg("shard"),
           py::arg("gpu") = py::none(), py::arg("deadline_s") = 60.0, py::arg("grace_s") = 5.0,
           py::arg("threads") = defaults.threads, py::arg("max_ctas") = defaults.max_ctas,
           py::arg("self_by_nccl") = false)
      .def(
          "start",
          [](Exchange& self, const py::array& ids, std::uintptr_t out, std::optional<std::uintptr_t> after,
             bool done) {
            if (ids.ndim() != 1 || (ids.flags() & py::array::c_style) == 0)
              throw Error(ErrorCode::kConfig, "ids must be a contiguous array of one dimension");
            if (ids.dtype().is(py::dtype::of<std::int32_t>()))
              return start<std::int32_t>(self, ids, out, after, done);
            if (ids.dtype().is(py::dtype::of<std::int64_t>()))
              return start<std::int64_t>(self, ids, out, after, done);
            throw Error(ErrorCode::kConfig, "ids must be int32 or int64");
          },
          py::arg("ids"), py::arg("out"), py::kw_only(), py::arg("after") = py::none(),
          py::arg("done") = false)
      .def("wait", &Exchange::wait, py::arg("round"), Released())
      .def_property_readonly("at_rest", &Exchange::at_rest)
      .def_property_readonly("serving", [](const Exchange& self) { return name_of(self.serving()); })
      .def("stats",
           [](const Exchange& self) {
             const auto stats = self.stats();
             py::dict all;
             all["rounds"] = stats.rounds;
             all["rows_got"] = stats.rows_got;
             all["rows_served"] = stats.rows_served;
             return all;
           })
      .def("close", &Exchange::close, Released());
}

}  // namespace

PYBIND11_MODULE(_nccl, m) {
  m.doc() = "Rudder's exchange of rows between GPUs over NCCL.";
  py::module_::import("rudder._core");  // has GpuRuntime
  register_errors(m);
  m.def(
      "library",
      [](const Files& files) {
        const rudder::nccl::Api nccl = rudder::nccl::open_nccl(files);
        return std::pair(nccl.version, nccl.file);
      },
      py::arg("files"), Released());
  m.def(
      "check_gpu", [](const Files& files, int device) { rudder::nccl::open_cuda(files, device); },
      py::arg("files"), py::arg("device"), Released());
  m.def(
      "new_id",
      [](const Files& files) {
        const UniqueId id = Exchange::new_id(files);
        return py::bytes(id.internal, sizeof(id.internal));
      },
      py::arg("files"));
  register_exchange(m);
}
