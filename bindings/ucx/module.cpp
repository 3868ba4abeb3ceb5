// rudder._ucx: the ucx transport and the feature server. A module of its own, so that rudder._core imports
// where UCX is absent. Its Python face is described in rudder/_ucx.pyi.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/error.h"
#include "open_ones.h"
#include "register.h"
#include "transport/ucx/client.h"
#include "transport/ucx/server.h"

namespace py = pybind11;

namespace {

using rudder::PartId;
using rudder::TableId;
using Released = py::call_guard<py::gil_scoped_release>;

std::span<const std::byte> view(const std::string& bytes) {
  return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
}

py::bytes as_bytes(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

rudder::wire::Token token_of(const std::string& bytes) {
  rudder::wire::Token token;
  if (bytes.size() != token.size())
    throw rudder::Error(rudder::ErrorCode::kConfig, "a token has " + std::to_string(token.size()) +
                                                        " bytes, not " + std::to_string(bytes.size()));
  std::memcpy(token.data(), bytes.data(), token.size());
  return token;
}

void register_server(py::module_& m) {
  using rudder::FeatureServer;
  const FeatureServer::Config defaults;
  py::class_<FeatureServer, std::shared_ptr<FeatureServer>>(m, "UcxServer")
      .def(py::init([](std::string devices, std::string tls, std::size_t threads, std::size_t staging_bytes,
                       std::size_t chunk_bytes, double stall_s, bool emulate_gets) {
             const py::gil_scoped_release release;
             FeatureServer::Config config{
                 .worker = {std::move(devices), std::move(tls), emulate_gets},
                 .threads = threads,
                 .staging_bytes = staging_bytes,
                 .chunk_bytes = chunk_bytes,
                 .stall = std::chrono::nanoseconds(static_cast<std::int64_t>(stall_s * 1e9))};
             return open_ones().remember(without_gil_at_the_end(std::make_unique<FeatureServer>(config)));
           }),
           py::kw_only(), py::arg("devices") = "", py::arg("tls") = "", py::arg("threads") = defaults.threads,
           py::arg("staging_bytes") = defaults.staging_bytes, py::arg("chunk_bytes") = defaults.chunk_bytes,
           py::arg("stall_s") = 10.0, py::arg("emulate_gets") = false)
      .def_property_readonly("address", [](const FeatureServer& self) { return as_bytes(self.address()); })
      .def_property_readonly("hosts", &FeatureServer::hosts)
      .def_property_readonly("why_open", &FeatureServer::why_open)
      .def(
          "let_in",
          [](FeatureServer& self, std::uint64_t session, const std::vector<std::string>& hosts) {
            self.let_in(session, hosts);
          },
          py::arg("session"), py::arg("hosts"), Released())
      .def(
          "expose",
          [](FeatureServer& self, const std::string& segment, std::size_t rows, std::size_t row_bytes,
             std::size_t offset) { return self.expose(segment, rows, row_bytes, offset); },
          py::arg("segment"), py::arg("rows"), py::arg("row_bytes"), py::arg("offset") = 0, Released())
      .def(
          "admit",
          [](FeatureServer& self, std::uint64_t session, const py::bytes& token, const py::bytes& address) {
            const rudder::wire::Token secret = token_of(token);
            const std::string where = address;
            const py::gil_scoped_release release;
            self.admit(session, secret, view(where));
          },
          py::arg("session"), py::arg("token"), py::arg("address"))
      .def(
          "offer",
          [](FeatureServer& self, FeatureServer::RegionId region) {
            rudder::wire::Offer offer;
            {
              const py::gil_scoped_release release;
              offer = self.offer(region);
            }
            return std::tuple(offer.address, as_bytes(offer.key), offer.why_not);
          },
          py::arg("region"))
      .def("grant", &FeatureServer::grant, py::arg("session"), py::arg("table"), py::arg("region"),
           Released())
      .def("dismiss", &FeatureServer::dismiss, py::arg("session"), Released())
      .def("dismissed", &FeatureServer::dismissed)
      .def("stats",
           [](const FeatureServer& self) {
             const auto stats = self.stats();
             py::dict all;
             all["requests"] = stats.requests;
             all["rows"] = stats.rows;
             all["bytes"] = stats.bytes;
             all["refused"] = stats.refused;
             all["sessions"] = stats.sessions;
             all["staged_bytes"] = stats.staged_bytes;
             return all;
           })
      .def("close", &FeatureServer::close, Released());
}

void register_transport(py::module_& m) {
  using rudder::Ucx;
  const Ucx::Config defaults;
  py::class_<Ucx, rudder::Transport, std::shared_ptr<Ucx>>(m, "UcxTransport")
      .def(py::init([](std::string devices, std::string tls, std::size_t in_flight_bytes,
                       std::size_t chunk_bytes, bool emulate_gets) {
             Ucx::Config config{.worker = {std::move(devices), std::move(tls), emulate_gets},
                                .in_flight_bytes = in_flight_bytes,
                                .chunk_bytes = chunk_bytes};
             const py::gil_scoped_release release;
             return open_ones().remember(without_gil_at_the_end(std::make_unique<Ucx>(std::move(config))));
           }),
           py::kw_only(), py::arg("devices") = "", py::arg("tls") = "",
           py::arg("in_flight_bytes") = defaults.in_flight_bytes,
           py::arg("chunk_bytes") = defaults.chunk_bytes, py::arg("emulate_gets") = false)
      .def_property_readonly("address", [](const Ucx& self) { return as_bytes(self.address()); })
      .def_property_readonly("hosts", &Ucx::hosts)
      .def_property_readonly("why_open", &Ucx::why_open)
      .def(
          "let_in",
          [](Ucx& self, std::int32_t peer, const std::vector<std::string>& hosts) {
            self.let_in(static_cast<PartId>(peer), hosts);
          },
          py::arg("peer"), py::arg("hosts"), Released())
      .def(
          "connect",
          [](Ucx& self, std::int32_t peer, const py::bytes& address, std::uint64_t session,
             const py::bytes& token, const std::string& version, const std::string& place) {
            const rudder::wire::Token secret = token_of(token);
            const std::string where = address;
            const py::gil_scoped_release release;
            self.connect(static_cast<PartId>(peer), view(where), session, secret, version, place);
          },
          py::arg("peer"), py::arg("address"), py::arg("session"), py::arg("token"), py::arg("version"),
          py::arg("place"))
      .def(
          "open",
          [](Ucx& self, std::int32_t peer, TableId table, std::size_t rows, std::size_t row_bytes,
             std::uint64_t at, const py::bytes& key, std::string why_no_key) {
            const std::string packed = key;
            const auto bytes = view(packed);
            const rudder::wire::Offer offer{at, {bytes.begin(), bytes.end()}, std::move(why_no_key)};
            const py::gil_scoped_release release;
            self.open(static_cast<PartId>(peer), table, rows, row_bytes, offer);
          },
          py::arg("peer"), py::arg("table"), py::arg("rows"), py::arg("row_bytes"), py::arg("at") = 0,
          py::arg("key") = py::bytes(), py::arg("why_no_key") = "")
      .def(
          "why_no_gets",
          [](const Ucx& self, std::int32_t peer, TableId table) {
            return self.why_no_gets(static_cast<PartId>(peer), table);
          },
          py::arg("peer"), py::arg("table"))
      .def(
          "use_gets",
          [](Ucx& self, std::int32_t peer, TableId table, bool on) {
            self.use_gets(static_cast<PartId>(peer), table, on);
          },
          py::arg("peer"), py::arg("table"), py::arg("on"), Released())
      .def(
          "disconnect",
          [](Ucx& self, std::int32_t peer, const std::string& why) {
            self.disconnect(static_cast<PartId>(peer), why);
          },
          py::arg("peer"), py::arg("why"), Released())
      .def(
          "connected",
          [](const Ucx& self, std::int32_t peer) { return self.connected(static_cast<PartId>(peer)); },
          py::arg("peer"))
      .def("next_loss",
           [](Ucx& self) -> std::optional<std::tuple<std::int32_t, std::uint64_t, std::string>> {
             std::optional<Ucx::Loss> loss;
             {
               const py::gil_scoped_release release;
               loss = self.next_loss();
             }
             if (!loss) return {};
             return std::tuple(rudder::value(loss->peer), loss->session, loss->why);
           })
      .def("stats", [](const Ucx& self) {
        const auto stats = self.stats();
        py::dict all;
        all["requests"] = stats.requests;
        all["rows"] = stats.rows;
        all["bytes"] = stats.bytes;
        all["errors"] = stats.errors;
        all["in_flight_bytes"] = stats.in_flight_bytes;
        return all;
      });
}

}  // namespace

PYBIND11_MODULE(_ucx, m) {
  m.doc() = "Rudder's transport over UCX, and its feature server.";
  py::module_::import("rudder._core");  // has Transport
  register_errors(m);
  m.def("library_version", &rudder::ucx::library_version);
  register_server(m);
  register_transport(m);
  close_at_exit();
}
