// A ledger by itself, in Python's hands: what replay, shadows and rollouts run their accesses through.
#include "ledger/counted.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "register.h"
#include "replay/replay.h"
#include "trace_arrays.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

std::size_t amount(std::int64_t value, const char* what) {
  if (value < 0) throw rudder::Error(rudder::ErrorCode::kConfig, std::string(what) + " must not be negative");
  return static_cast<std::size_t>(value);
}

using rudder::CountedLedger;

std::vector<std::int64_t> run_trace(CountedLedger& self, const rudder::Trace& trace, std::size_t begin,
                                    std::size_t end, const rudder::Reach& window) {
  if (const rudder::NodeId last{trace.id_space() - 1}; value(last) >= 0) self.check({&last, 1});
  if (begin > end || end > trace.minibatches())
    throw rudder::Error(rudder::ErrorCode::kConfig, "minibatches " + std::to_string(begin) + " to " +
                                                        std::to_string(end) + " of a trace of " +
                                                        std::to_string(trace.minibatches()));
  std::vector<std::int64_t> moved;
  moved.reserve(end - begin);
  rudder::advance(self.ledger(), trace, window, begin, end, [&](const rudder::Verdict& verdict) {
    moved.push_back(static_cast<std::int64_t>(self.count(verdict)));
  });
  return moved;
}

py::dict counters(const CountedLedger& self) {
  const rudder::Ledger& ledger = self.ledger();
  const rudder::Totals& total = self.totals();
  return py::dict("minibatches"_a = self.minibatches(), "rows_requested"_a = total.rows_requested,
                  "rows_hit"_a = total.hits, "rows_merged"_a = total.merged,
                  "rows_moved"_a = total.rows_moved, "rows_replaced"_a = total.replacement_rows,
                  "rows_evicted"_a = self.rows_evicted(), "capacity_rows"_a = ledger.policy().capacity(),
                  "cached_rows"_a = ledger.policy().size(), "window_rows"_a = ledger.window().rows(),
                  "window_minibatches"_a = ledger.window().minibatches(), "window_bytes"_a = ledger.bytes());
}

std::unique_ptr<CountedLedger> make(std::int64_t id_space, std::int64_t capacity, std::string policy,
                                    std::int64_t depth, const std::shared_ptr<rudder::Prior>& prior,
                                    bool prefill, std::uint64_t observe, std::uint32_t period, double alpha) {
  rudder::LedgerConfig config;
  config.id_space = id_space;
  config.policy = {.name = std::move(policy),
                   .capacity = amount(capacity, "capacity"),
                   .prior = prior,
                   .prefill = prefill,
                   .observe = observe,
                   .period = period,
                   .alpha = alpha};
  config.depth = amount(depth, "depth");
  return std::make_unique<CountedLedger>(config);
}

py::array_t<std::int64_t> run(CountedLedger& self, const py::array& ids,
                              const arrays::Array<std::int64_t>& offsets, std::int64_t begin,
                              std::optional<std::int64_t> end, std::int64_t window,
                              std::int64_t window_rows) {
  const arrays::TraceArrays trace_arrays(ids, offsets);
  const rudder::Reach reach{.minibatches = amount(window, "window"),
                            .rows = amount(window_rows, "window_rows")};
  const std::size_t first = amount(begin, "begin");
  std::vector<std::int64_t> moved;
  {
    const py::gil_scoped_release release;
    const rudder::Trace trace = trace_arrays.trace();
    moved = run_trace(self, trace, first, end ? amount(*end, "end") : trace.minibatches(), reach);
  }
  return arrays::from(moved);
}

}  // namespace

void register_ledger(py::module_& m) {
  py::class_<CountedLedger>(m, "Ledger")
      .def(py::init(&make), py::kw_only(), "id_space"_a, "capacity"_a, "policy"_a = "lookahead",
           "depth"_a = 0, "prior"_a = std::shared_ptr<rudder::Prior>(), "prefill"_a = false, "observe"_a = 0,
           "period"_a = 32, "alpha"_a = 0.05)
      .def(
          "foresee",
          [](CountedLedger& self, const arrays::Ids& ids) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            return self.foresee(view);
          },
          "ids"_a)
      .def("execute", &CountedLedger::execute, py::call_guard<py::gil_scoped_release>())
      .def(
          "read",
          [](CountedLedger& self, const arrays::Ids& ids) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            return self.read(view);
          },
          "ids"_a)
      .def("run", &run, "ids"_a, "offsets"_a, py::kw_only(), "begin"_a = 0, "end"_a = py::none(),
           "window"_a = 0, "window_rows"_a = 0)
      .def(
          "steer",
          [](CountedLedger& self, std::optional<std::int64_t> capacity_rows,
             std::optional<std::int64_t> depth, std::shared_ptr<rudder::Prior> prior,
             std::optional<bool> replace, std::optional<std::uint32_t> fraction,
             std::optional<std::uint64_t> observe) {
            std::optional<std::size_t> rows, minibatches;
            if (capacity_rows) rows = amount(*capacity_rows, "capacity_rows");
            if (depth) minibatches = amount(*depth, "depth");
            const py::gil_scoped_release release;
            self.steer({rows, minibatches, std::move(prior), replace, fraction, observe});
          },
          py::kw_only(), "capacity_rows"_a = py::none(), "depth"_a = py::none(),
          "prior"_a = std::shared_ptr<rudder::Prior>(), "replace"_a = py::none(), "fraction"_a = py::none(),
          "observe"_a = py::none())
      .def("drop_pending", &CountedLedger::drop_pending, py::call_guard<py::gil_scoped_release>())
      .def(
          "invalidate",
          [](CountedLedger& self, const arrays::Ids& ids) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            self.invalidate(view);
          },
          "ids"_a)
      .def(
          "clone", [](const CountedLedger& self) { return std::make_unique<CountedLedger>(self); },
          py::call_guard<py::gil_scoped_release>())
      .def("counters", &counters);
}
