#include <pybind11/stl.h>

#include <chrono>
#include <memory>
#include <vector>

#include "arrays.h"
#include "fetch/probe.h"
#include "register.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

std::shared_ptr<rudder::TransportProbe> make(std::shared_ptr<rudder::Transport> transport,
                                             rudder::TableId table, std::size_t row_bytes,
                                             const std::vector<std::int32_t>& peers, double deadline_s) {
  rudder::ProbeConfig config;
  config.transport = std::move(transport);
  config.table = table;
  config.row_bytes = row_bytes;
  for (const std::int32_t peer : peers) config.peers.push_back(static_cast<rudder::PartId>(peer));
  config.deadline = std::chrono::nanoseconds(static_cast<std::int64_t>(deadline_s * 1e9));
  return std::make_shared<rudder::TransportProbe>(std::move(config));
}

py::tuple run(rudder::TransportProbe& self, const arrays::Ids& rows, py::array out, std::size_t in_flight) {
  if (rows.ndim() != 2)
    throw rudder::Error(rudder::ErrorCode::kConfig, "rows must have the shape [requests, rows per request]");
  const std::span<const std::int64_t> numbers(rows.data(), static_cast<std::size_t>(rows.size()));
  const auto per_request = static_cast<std::size_t>(rows.shape(1));
  const std::span<std::byte> target = arrays::writable(out, "out");
  rudder::ProbeResult result;
  {
    const py::gil_scoped_release release;
    result = self.run(numbers, per_request, in_flight, target);
  }
  py::array_t<std::int64_t> latencies(static_cast<py::ssize_t>(result.latencies.size()));
  for (std::size_t i = 0; i < result.latencies.size(); ++i)
    latencies.mutable_at(static_cast<py::ssize_t>(i)) = result.latencies[i].count();
  return py::make_tuple(std::chrono::duration<double>(result.elapsed).count(), latencies);
}

}  // namespace

void register_probe(py::module_& m) {
  py::class_<rudder::TransportProbe, std::shared_ptr<rudder::TransportProbe>>(m, "TransportProbe")
      .def(py::init(&make), "transport"_a, py::kw_only(), "table"_a, "row_bytes"_a, "peers"_a,
           "deadline_s"_a = 30.0)
      .def("run", &run, "rows"_a, "out"_a, "in_flight"_a = 1);
}
