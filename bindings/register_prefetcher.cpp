#include "prefetcher/prefetcher.h"

#include <pybind11/stl.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.h"
#include "open_ones.h"
#include "register.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

std::chrono::nanoseconds seconds(double value) {
  if (std::isnan(value) || value < 0)
    throw rudder::Error(rudder::ErrorCode::kConfig, "a time must not be negative");
  // Beyond some 100 years it means "as long as it takes".
  constexpr double kForever = 3e9;
  return value >= kForever ? std::chrono::nanoseconds::max()
                           : std::chrono::nanoseconds(static_cast<std::int64_t>(value * 1e9));
}

// Ctrl-C is heard while a call waits.
void check_signals() {
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

std::size_t amount(std::int64_t value, const char* what) {
  if (value < 0) throw rudder::Error(rudder::ErrorCode::kConfig, std::string(what) + " must not be negative");
  return static_cast<std::size_t>(value);
}

// The core's prefetcher with what Python must keep alive for it. Closes without the GIL, since a pull may
// need it.
class Held {
 public:
  Held(const rudder::PrefetcherConfig& config, py::object local_rows)
      : local_rows_(std::move(local_rows)), core_(std::make_unique<rudder::Prefetcher>(config)) {}
  ~Held() {
    const WithoutGil released;
    core_.reset();
  }
  rudder::Prefetcher& operator*() { return *core_; }

 private:
  py::object local_rows_;
  std::unique_ptr<rudder::Prefetcher> core_;
};

std::shared_ptr<Held> make(rudder::TableId table, std::int64_t row_bytes, const arrays::Ids& part_starts,
                           std::int32_t local_part, const py::object& local_rows,
                           std::vector<std::vector<std::shared_ptr<rudder::Transport>>> routes,
                           std::int64_t capacity_rows, std::int64_t window_rows, std::int64_t depth,
                           std::string policy, const std::shared_ptr<rudder::Prior>& prior,
                           std::int64_t staging_bytes, double deadline_s, std::int64_t threads, bool record,
                           bool prefill, std::uint64_t observe, std::uint32_t period, double alpha,
                           std::shared_ptr<rudder::cuda::Device> gpu, std::int64_t device_rows,
                           std::int64_t most_rows) {
  rudder::PrefetcherConfig config;
  config.table = table;
  config.row_bytes = amount(row_bytes, "row_bytes");
  config.part_starts.assign(part_starts.data(), part_starts.data() + part_starts.size());
  config.local_part = static_cast<rudder::PartId>(local_part);
  if (!local_rows.is_none()) {
    const arrays::Rows rows = arrays::rows(py::cast<py::array>(local_rows), "local_rows");
    const rudder::PartMap parts(config.part_starts, config.local_part);
    if (rows.row_bytes != config.row_bytes ||
        static_cast<std::int64_t>(rows.count) != parts.rows(config.local_part))
      throw rudder::Error(rudder::ErrorCode::kConfig,
                          "local_rows has shape [" + std::to_string(rows.count) + ", " +
                              std::to_string(rows.row_bytes) + "]; the local partition has " +
                              std::to_string(parts.rows(config.local_part)) + " rows of " +
                              std::to_string(config.row_bytes) + " bytes");
    config.local_rows = rows.data;
  }
  config.routes = std::move(routes);
  config.policy = {.name = std::move(policy),
                   .capacity = amount(capacity_rows, "capacity_rows"),
                   .prior = prior,
                   .prefill = prefill,
                   .observe = observe,
                   .period = period,
                   .alpha = alpha};
  config.window_rows = amount(window_rows, "window_rows");
  config.depth = amount(depth, "depth");
  config.staging_bytes = amount(staging_bytes, "staging_bytes");
  config.deadline = seconds(deadline_s);
  config.threads = amount(threads, "threads");
  config.record = record;
  config.gpu = std::move(gpu);
  config.device_rows = amount(device_rows, "device_rows");
  config.most_rows = amount(most_rows, "most_rows");
  return std::make_shared<Held>(config, local_rows);
}

py::dict counters(Held& self) {
  const rudder::Counters c = (*self).counters();
  return py::dict(
      "minibatches"_a = c.minibatches, "ids_requested"_a = c.ids_requested,
      "rows_requested"_a = c.rows_requested, "rows_hit"_a = c.rows_hit, "rows_moved"_a = c.rows_moved,
      "rows_merged"_a = c.rows_merged, "rows_replaced"_a = c.rows_replaced, "rows_evicted"_a = c.rows_evicted,
      "rows_hit_on_device"_a = c.rows_hit_on_device, "rows_read_unplanned"_a = c.rows_read_unplanned,
      "rows_refetched"_a = c.rows_refetched, "rows_wasted"_a = c.rows_wasted,
      "fetches_failed"_a = c.fetches_failed, "promotions_refused"_a = c.promotions_refused,
      "seconds_fetching"_a = c.seconds_fetching, "seconds_stalled"_a = c.seconds_stalled,
      "capacity_rows"_a = c.capacity_rows, "cached_rows"_a = c.cached_rows, "held_rows"_a = c.held_rows,
      "window_rows"_a = c.window_rows, "device_rows"_a = c.device_rows, "device_bytes"_a = c.device_bytes,
      "upload_bytes"_a = c.upload_bytes, "upload_device_bytes"_a = c.upload_device_bytes,
      "window_minibatches"_a = c.window_minibatches, "overhead_bytes"_a = c.overhead_bytes,
      "window_bytes"_a = c.window_bytes, "waiting_bytes"_a = c.waiting_bytes,
      "staging_bytes_now"_a = c.staging_bytes_now, "staging_bytes_peak"_a = c.staging_bytes_peak);
}

py::list route_state(Held& self) {
  py::list states;
  for (const rudder::RouteState& state : (*self).routes())
    states.append(
        py::dict("transport"_a = state.transport, "fallback"_a = state.fallback, "why"_a = state.why));
  return states;
}

py::dict memory(Held& self) {
  const rudder::Arena& arena = (*self).arena();
  const rudder::cuda::Device* gpu = (*self).gpu();
  return py::dict("bytes"_a = arena.mapped(), "pages"_a = std::string(rudder::to_string(arena.pages())),
                  "pinned"_a = arena.pinned(), "pin_refusal"_a = arena.pin_refusal(),
                  "gpu"_a = gpu == nullptr ? "" : gpu->name(),
                  "local_pin_refusal"_a = (*self).local_refusal());
}

// Device memory and a stream, as numbers: what torch's data_ptr() and cuda_stream are.
rudder::DeviceOut device_out(std::uintptr_t data, std::size_t bytes, std::uintptr_t stream) {
  return {reinterpret_cast<std::byte*>(data), bytes,        // NOLINT(performance-no-int-to-ptr)
          reinterpret_cast<rudder::cuda::Stream>(stream)};  // NOLINT(performance-no-int-to-ptr)
}

py::list drain_record(Held& self) {
  py::list calls;
  for (const rudder::LedgerCall& call : (*self).drain_record())
    calls.append(py::make_tuple(
        std::string(call.call), call.number,
        arrays::from({reinterpret_cast<const std::int64_t*>(call.ids.data()), call.ids.size()})));
  return calls;
}

}  // namespace

void register_prefetcher(py::module_& m) {
  const auto forever = std::numeric_limits<double>::infinity();
  py::class_<Held, std::shared_ptr<Held>>(m, "Prefetcher")
      .def(py::init(&make), py::kw_only(), "table"_a, "row_bytes"_a, "part_starts"_a, "local_part"_a,
           "local_rows"_a, "routes"_a, "capacity_rows"_a, "window_rows"_a, "depth"_a = 2,
           "policy"_a = "lookahead", "prior"_a = std::shared_ptr<rudder::Prior>(),
           "staging_bytes"_a = std::int64_t{256} << 20, "deadline_s"_a = 30.0, "threads"_a = 1,
           "record"_a = false, "prefill"_a = false, "observe"_a = 0, "period"_a = 32, "alpha"_a = 0.05,
           "gpu"_a = std::shared_ptr<rudder::cuda::Device>(), "device_rows"_a = 0, "most_rows"_a = 0)
      .def(
          "submit",
          [](Held& self, const arrays::Ids& ids, std::int64_t waiting_bytes) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            return (*self).submit(view, amount(waiting_bytes, "waiting_bytes"));
          },
          "ids"_a, "waiting_bytes"_a = 0)
      .def(
          "wait_room",
          [](Held& self, double timeout_s) {
            const py::gil_scoped_release release;
            return (*self).wait_room(seconds(timeout_s));
          },
          "timeout_s"_a)
      .def(
          "take",
          [](Held& self, rudder::Seq seq, double timeout_s) {
            const py::gil_scoped_release release;
            (*self).take(seq, seconds(timeout_s), check_signals);
          },
          "seq"_a, "timeout_s"_a = forever)
      .def(
          "gather",
          [](Held& self, rudder::Seq seq, py::array out) {
            const auto view = arrays::writable(out, "out");
            const py::gil_scoped_release release;
            (*self).gather(seq, view, check_signals);
          },
          "seq"_a, "out"_a)
      .def(
          "gather_on_device",
          [](Held& self, rudder::Seq seq, std::uintptr_t data, std::size_t bytes, std::uintptr_t stream) {
            const py::gil_scoped_release release;
            (*self).gather(seq, device_out(data, bytes, stream), check_signals);
          },
          "seq"_a, "data"_a, "bytes"_a, "stream"_a)
      .def(
          "release", [](Held& self, rudder::Seq seq) { (*self).release(seq); }, "seq"_a,
          py::call_guard<py::gil_scoped_release>())
      .def(
          "read",
          [](Held& self, const arrays::Ids& ids, py::array out) {
            const auto view = arrays::ids(ids);
            const auto destination = arrays::writable(out, "out");
            const py::gil_scoped_release release;
            (*self).read(view, destination, check_signals);
          },
          "ids"_a, "out"_a)
      .def(
          "read_on_device",
          [](Held& self, const arrays::Ids& ids, std::uintptr_t data, std::size_t bytes,
             std::uintptr_t stream) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            (*self).read(view, device_out(data, bytes, stream), check_signals);
          },
          "ids"_a, "data"_a, "bytes"_a, "stream"_a)
      .def(
          "drop_pending", [](Held& self) { return (*self).drop_pending(); },
          py::call_guard<py::gil_scoped_release>())
      .def(
          "invalidate",
          [](Held& self, const std::optional<arrays::Ids>& ids) {
            std::optional<std::span<const rudder::NodeId>> view;
            if (ids) view = arrays::ids(*ids);
            const py::gil_scoped_release release;
            (*self).invalidate(view);
          },
          "ids"_a.none(true))
      .def(
          "steer",
          [](Held& self, std::optional<std::int64_t> capacity_rows, std::optional<std::int64_t> window_rows,
             std::optional<std::int64_t> depth, std::optional<std::int64_t> staging_bytes,
             std::shared_ptr<rudder::Prior> prior, std::optional<bool> replace,
             std::optional<std::uint32_t> fraction, std::optional<std::uint64_t> observe,
             std::optional<std::int64_t> device_rows) {
            rudder::Steering steering;
            if (capacity_rows) steering.capacity_rows = amount(*capacity_rows, "capacity_rows");
            if (window_rows) steering.window_rows = amount(*window_rows, "window_rows");
            if (depth) steering.depth = amount(*depth, "depth");
            if (staging_bytes) steering.staging_bytes = amount(*staging_bytes, "staging_bytes");
            steering.prior = std::move(prior);
            steering.replace = replace;
            if (fraction && (*fraction < 1 || *fraction > 100))
              throw rudder::Error(rudder::ErrorCode::kConfig, "fraction must be 1 to 100 percent");
            steering.fraction = fraction;
            steering.observe = observe;
            if (device_rows) steering.device_rows = amount(*device_rows, "device_rows");
            const py::gil_scoped_release release;
            (*self).steer(steering);
          },
          py::kw_only(), "capacity_rows"_a = py::none(), "window_rows"_a = py::none(), "depth"_a = py::none(),
          "staging_bytes"_a = py::none(), "prior"_a = std::shared_ptr<rudder::Prior>(),
          "replace"_a = py::none(), "fraction"_a = py::none(), "observe"_a = py::none(),
          "device_rows"_a = py::none())
      .def("counters", &counters)
      .def("route_state", &route_state)
      .def("memory", &memory)
      .def("drain_record", &drain_record)
      .def("close", [](Held& self) { (*self).close(); }, py::call_guard<py::gil_scoped_release>());
}
