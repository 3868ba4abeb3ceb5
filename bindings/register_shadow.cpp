// Modelled time, in Python's hands: what shadows and rollouts run their trials through.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "arrays.h"
#include "ledger/counted.h"
#include "register.h"
#include "shadow/feed.h"
#include "shadow/fit.h"
#include "shadow/numbering.h"
#include "shadow/pipeline.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using rudder::Feed;
using rudder::Pipeline;

// The rows that a ledger moves whose ids each stand for 2 ** halvings.
class Moved final : public rudder::Rows {
 public:
  Moved(const Feed& feed, rudder::CountedLedger& ledger, unsigned halvings)
      : feed_(feed), ledger_(ledger), halvings_(halvings) {}
  void foresee(std::int64_t minibatch) override { ledger_.foresee(feed_[minibatch].ids); }
  double execute(std::int64_t) override {
    const auto rows = static_cast<double>(ledger_.execute() << halvings_);
    rows_.push_back(rows);
    return rows;
  }
  const std::vector<double>& rows() const { return rows_; }

 private:
  const Feed& feed_;
  rudder::CountedLedger& ledger_;
  unsigned halvings_;
  std::vector<double> rows_;
};

py::array_t<double> run(Pipeline& self, const Feed& feed, rudder::CountedLedger& ledger, std::int64_t end,
                        unsigned halvings) {
  Moved moved(feed, ledger, halvings);
  {
    const py::gil_scoped_release release;
    self.run(feed, moved, end);
  }
  return py::array_t<double>(static_cast<py::ssize_t>(moved.rows().size()), moved.rows().data());
}

Pipeline::Settings settings(std::int64_t depth, double window_rows, double waiting_bytes) {
  return {.depth = depth, .window_rows = window_rows, .waiting_bytes = waiting_bytes};
}

void append(Feed& self, const arrays::Ids& ids, double requests, double sampling, double block_bytes,
            double compute, double row_seconds, double latency) {
  const auto view = arrays::ids(ids);
  self.append({.ids = {view.begin(), view.end()},
               .requests = requests,
               .block_bytes = block_bytes,
               .sampling = sampling,
               .compute = compute,
               .row_seconds = row_seconds,
               .latency = latency});
}

py::array_t<std::int64_t> as_array(std::span<const rudder::NodeId> ids) {
  return arrays::from({reinterpret_cast<const std::int64_t*>(ids.data()), ids.size()});
}

py::array_t<std::int64_t> ids_of(const Feed& self, std::int64_t minibatch) {
  self.check(minibatch, minibatch + 1);
  return as_array(self[minibatch].ids);
}

py::array_t<std::int64_t> numbers_of(rudder::Numbering& self, const arrays::Ids& ids) {
  const auto view = arrays::ids(ids);
  std::vector<std::int64_t> numbers;
  {
    const py::gil_scoped_release release;
    numbers = self.of(view);
  }
  return arrays::from(numbers);
}

void register_feed(py::module_& m) {
  py::class_<Feed>(m, "Feed")
      .def(py::init<>())
      .def_property_readonly("first", &Feed::first)
      .def_property_readonly("end", &Feed::end)
      .def("ids", &ids_of, "minibatch"_a)
      .def("append", &append, "ids"_a, py::kw_only(), "requests"_a, "sampling"_a, "block_bytes"_a,
           "compute"_a = 0.0, "row_seconds"_a = 0.0, "latency"_a = 0.0)
      .def("pass_by", &Feed::pass_by)
      .def("cost", py::overload_cast<std::int64_t, std::int64_t, double, double, double>(&Feed::cost),
           "begin"_a, "end"_a, py::kw_only(), "compute"_a, "row_seconds"_a, "latency"_a)
      .def("cost", py::overload_cast<std::int64_t, std::int64_t, double>(&Feed::cost), "begin"_a, "end"_a,
           py::kw_only(), "row_seconds"_a)
      .def(
          "renumber",
          [](Feed& self, std::int64_t minibatch, const arrays::Ids& ids) {
            self.renumber(minibatch, arrays::ids(ids));
          },
          "minibatch"_a, "ids"_a)
      .def("forget", &Feed::forget, "before"_a)
      .def("truncate", &Feed::truncate, "end"_a);
}

}  // namespace

void register_shadow(py::module_& m) {
  register_feed(m);
  py::class_<rudder::Numbering>(m, "Numbering")
      .def(py::init<>())
      .def("__len__", [](const rudder::Numbering& self) { return self.ids().size(); })
      .def_property_readonly("ids", [](const rudder::Numbering& self) { return as_array(self.ids()); })
      .def("of", &numbers_of, "ids"_a);
  py::class_<Pipeline>(m, "Pipeline")
      .def(py::init([](std::int64_t depth, double window_rows, double waiting_bytes, std::int64_t first) {
             return std::make_unique<Pipeline>(settings(depth, window_rows, waiting_bytes), first);
           }),
           "depth"_a, "window_rows"_a, "waiting_bytes"_a, "first"_a = 0)
      .def(
          "clone", [](const Pipeline& self) { return std::make_unique<Pipeline>(self); },
          py::call_guard<py::gil_scoped_release>())
      .def(
          "steer",
          [](Pipeline& self, const Feed& feed, std::int64_t depth, double window_rows, double waiting_bytes) {
            self.steer(feed, settings(depth, window_rows, waiting_bytes));
          },
          "feed"_a, "depth"_a, "window_rows"_a, "waiting_bytes"_a)
      .def("pause", &Pipeline::pause, "seconds"_a)
      .def("drop", &Pipeline::drop)
      .def("run", &run, "feed"_a, "ledger"_a, "end"_a, "halvings"_a = 0)
      .def(
          "row_seconds",
          [](const Pipeline& self, Feed& feed, const std::vector<double>& moved, double fetching,
             double guess) {
            const py::gil_scoped_release release;
            return rudder::row_seconds(self, feed, moved, fetching, guess);
          },
          "feed"_a, "moved"_a, "fetching"_a, "guess"_a)
      .def_property_readonly("clock", &Pipeline::clock)
      .def_property_readonly("next", &Pipeline::next)
      .def_property_readonly("sampled", &Pipeline::sampled)
      .def_property_readonly("stalled_sampling", &Pipeline::stalled_sampling)
      .def_property_readonly("stalled_fetching", &Pipeline::stalled_fetching)
      .def_property_readonly("fetching", &Pipeline::fetching);
}
