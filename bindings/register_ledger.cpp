// A ledger by itself, in Python's hands: what replay, shadows and rollouts run their accesses through.
#include "ledger/ledger.h"

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

// A ledger with its totals, and checks of what it REQUIRES.
class Counted {
 public:
  explicit Counted(const rudder::LedgerConfig& config) : id_space_(config.id_space), ledger_(config) {}

  rudder::Seq foresee(std::span<const rudder::NodeId> ids) {
    check(ids);
    return ledger_.foresee(ids);
  }

  std::size_t execute() {
    if (ledger_.window().empty())
      throw rudder::Error(rudder::ErrorCode::kState, "the window is empty: foresee a minibatch first");
    return count(ledger_.execute());
  }

  std::size_t read(std::span<const rudder::NodeId> ids) {
    check(ids);
    return count(ledger_.execute_now(ids));
  }

  std::vector<std::int64_t> run(const rudder::Trace& trace, std::size_t begin, std::size_t end,
                                const rudder::Reach& window) {
    if (trace.id_space() > id_space_) refuse(trace.id_space() - 1);
    if (begin > end || end > trace.minibatches())
      throw rudder::Error(rudder::ErrorCode::kConfig, "minibatches " + std::to_string(begin) + " to " +
                                                          std::to_string(end) + " of a trace of " +
                                                          std::to_string(trace.minibatches()));
    std::vector<std::int64_t> moved;
    moved.reserve(end - begin);
    rudder::advance(ledger_, trace, window, begin, end, [&](const rudder::Verdict& verdict) {
      moved.push_back(static_cast<std::int64_t>(count(verdict)));
    });
    return moved;
  }

  void steer(std::optional<std::size_t> capacity, std::optional<std::size_t> depth,
             std::shared_ptr<const rudder::Prior> prior, std::optional<bool> replace,
             std::optional<std::uint32_t> fraction, std::optional<std::uint64_t> observe) {
    if (capacity && *capacity != ledger_.policy().capacity()) {
      ledger_.set_capacity(*capacity);
      evicted_ += ledger_.evicted().size();
    }
    if (depth) ledger_.set_depth(*depth);
    if (prior) ledger_.set_prior(std::move(prior));
    if (fraction) ledger_.limit_replacement(*fraction);
    if (replace) ledger_.allow_replacement(*replace);
    if (observe) ledger_.observe(*observe);
  }

  void drop_pending() { ledger_.drop_pending(); }

  void invalidate(std::span<const rudder::NodeId> ids) {
    check(ids);
    for (const rudder::NodeId id : ids) evicted_ += ledger_.invalidate(id) != rudder::kNoRow;
  }

  py::dict counters() const {
    return py::dict("minibatches"_a = minibatches_, "rows_requested"_a = total_.rows_requested,
                    "rows_hit"_a = total_.hits, "rows_merged"_a = total_.merged,
                    "rows_moved"_a = total_.rows_moved, "rows_replaced"_a = total_.replacement_rows,
                    "rows_evicted"_a = evicted_, "capacity_rows"_a = ledger_.policy().capacity(),
                    "cached_rows"_a = ledger_.policy().size(), "window_rows"_a = ledger_.window().rows(),
                    "window_minibatches"_a = ledger_.window().minibatches(),
                    "window_bytes"_a = ledger_.bytes());
  }

 private:
  void check(std::span<const rudder::NodeId> ids) const {
    for (const rudder::NodeId id : ids)
      if (rudder::value(id) < 0 || rudder::value(id) >= id_space_) refuse(rudder::value(id));
  }
  [[noreturn]] void refuse(std::int64_t id) const {
    throw rudder::Error(rudder::ErrorCode::kOutOfRange,
                        "id " + std::to_string(id) + " is outside of [0, " + std::to_string(id_space_) + ")");
  }
  std::size_t count(const rudder::Verdict& verdict) {
    ++minibatches_;
    total_.count(verdict);
    evicted_ += verdict.evicted.size();
    return verdict.misses + verdict.replaced.size();
  }

  std::int64_t id_space_;
  rudder::Ledger ledger_;
  rudder::ReplayResult total_;
  std::uint64_t minibatches_ = 0, evicted_ = 0;
};

std::unique_ptr<Counted> make(std::int64_t id_space, std::int64_t capacity, std::string policy,
                              std::int64_t depth, const std::shared_ptr<rudder::Prior>& prior, bool prefill,
                              std::uint64_t observe, std::uint32_t period, double alpha) {
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
  return std::make_unique<Counted>(config);
}

py::array_t<std::int64_t> run(Counted& self, const py::array& ids, const arrays::Array<std::int64_t>& offsets,
                              std::int64_t begin, std::optional<std::int64_t> end, std::int64_t window,
                              std::int64_t window_rows) {
  const arrays::TraceArrays trace_arrays(ids, offsets);
  const rudder::Reach reach{.minibatches = amount(window, "window"),
                            .rows = amount(window_rows, "window_rows")};
  const std::size_t first = amount(begin, "begin");
  std::vector<std::int64_t> moved;
  {
    const py::gil_scoped_release release;
    const rudder::Trace trace = trace_arrays.trace();
    moved = self.run(trace, first, end ? amount(*end, "end") : trace.minibatches(), reach);
  }
  return arrays::from(moved);
}

}  // namespace

void register_ledger(py::module_& m) {
  py::class_<Counted>(m, "Ledger")
      .def(py::init(&make), py::kw_only(), "id_space"_a, "capacity"_a, "policy"_a = "lookahead",
           "depth"_a = 0, "prior"_a = std::shared_ptr<rudder::Prior>(), "prefill"_a = false, "observe"_a = 0,
           "period"_a = 32, "alpha"_a = 0.05)
      .def(
          "foresee",
          [](Counted& self, const arrays::Ids& ids) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            return self.foresee(view);
          },
          "ids"_a)
      .def("execute", &Counted::execute, py::call_guard<py::gil_scoped_release>())
      .def(
          "read",
          [](Counted& self, const arrays::Ids& ids) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            return self.read(view);
          },
          "ids"_a)
      .def("run", &run, "ids"_a, "offsets"_a, py::kw_only(), "begin"_a = 0, "end"_a = py::none(),
           "window"_a = 0, "window_rows"_a = 0)
      .def(
          "steer",
          [](Counted& self, std::optional<std::int64_t> capacity_rows, std::optional<std::int64_t> depth,
             std::shared_ptr<rudder::Prior> prior, std::optional<bool> replace,
             std::optional<std::uint32_t> fraction, std::optional<std::uint64_t> observe) {
            std::optional<std::size_t> rows, minibatches;
            if (capacity_rows) rows = amount(*capacity_rows, "capacity_rows");
            if (depth) minibatches = amount(*depth, "depth");
            const py::gil_scoped_release release;
            self.steer(rows, minibatches, std::move(prior), replace, fraction, observe);
          },
          py::kw_only(), "capacity_rows"_a = py::none(), "depth"_a = py::none(),
          "prior"_a = std::shared_ptr<rudder::Prior>(), "replace"_a = py::none(), "fraction"_a = py::none(),
          "observe"_a = py::none())
      .def("drop_pending", &Counted::drop_pending, py::call_guard<py::gil_scoped_release>())
      .def(
          "invalidate",
          [](Counted& self, const arrays::Ids& ids) {
            const auto view = arrays::ids(ids);
            const py::gil_scoped_release release;
            self.invalidate(view);
          },
          "ids"_a)
      .def(
          "clone", [](const Counted& self) { return std::make_unique<Counted>(self); },
          py::call_guard<py::gil_scoped_release>())
      .def("counters", &Counted::counters);
}
