// Replay and its marks: traces as numpy arrays in, numbers of rows out. module.cpp turns the core's errors
// into rudder.errors.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <variant>

#include "register.h"
#include "replay/min.h"
#include "replay/replay.h"
#include "trace_arrays.h"

namespace py = pybind11;

namespace {

using arrays::Array;
using arrays::TraceArrays;
using arrays::view;

std::shared_ptr<const rudder::Prior> make_prior(const py::object& prior) {
  if (prior.is_none()) return nullptr;
  if (!py::isinstance<Array<float>>(prior))
    throw py::type_error("prior must be a C-contiguous array of float32");
  return rudder::Prior::from_worth(view<float>(py::cast<py::array>(prior)));
}

py::dict run_replay(const py::array& ids, const Array<std::int64_t>& offsets, std::string policy,
                    std::size_t capacity, const py::object& prior, std::size_t window,
                    std::size_t window_rows, bool tumbling, std::size_t depth, bool prefill,
                    std::uint64_t observe, std::uint32_t period, double alpha) {
  const TraceArrays arrays(ids, offsets);
  rudder::ReplayConfig config;
  config.policy = {.name = std::move(policy),
                   .capacity = capacity,
                   .prior = make_prior(prior),
                   .prefill = prefill,
                   .observe = observe,
                   .period = period,
                   .alpha = alpha};
  config.window = {.minibatches = window, .rows = window_rows, .tumbling = tumbling};
  config.depth = depth;
  rudder::Totals result;
  {
    const py::gil_scoped_release release;
    result = rudder::replay(arrays.trace(), config);
  }
  py::dict answer;
  answer["rows_requested"] = result.rows_requested;
  answer["hits"] = result.hits;
  answer["merged"] = result.merged;
  answer["rows_moved"] = result.rows_moved;
  answer["replacement_rows"] = result.replacement_rows;
  return answer;
}

// One capacity, or several at the price of little more than one.
using Capacities = std::variant<std::size_t, std::vector<std::size_t>>;
using Rows = std::variant<std::uint64_t, std::vector<std::uint64_t>>;

template <typename RowsAt>
Rows with_optimum(const py::array& ids, const Array<std::int64_t>& offsets, const Capacities& capacities,
                  const RowsAt& rows_at) {
  const TraceArrays arrays(ids, offsets);
  const py::gil_scoped_release release;
  const rudder::Trace trace = arrays.trace();
  const rudder::OfflineOptimum optimum(trace);
  if (const auto* one = std::get_if<std::size_t>(&capacities)) return rows_at(optimum, *one);
  std::vector<std::uint64_t> rows;
  for (const std::size_t capacity : std::get<1>(capacities)) rows.push_back(rows_at(optimum, capacity));
  return rows;
}

Rows offline_optimum(const py::array& ids, const Array<std::int64_t>& offsets, const Capacities& capacity) {
  return with_optimum(ids, offsets, capacity, [](const rudder::OfflineOptimum& optimum, std::size_t k) {
    return optimum.min_rows(k);
  });
}

Rows static_oracle(const py::array& ids, const Array<std::int64_t>& offsets, const Capacities& capacity) {
  return with_optimum(ids, offsets, capacity, [](const rudder::OfflineOptimum& optimum, std::size_t k) {
    return optimum.static_rows(k);
  });
}

Rows compulsory(const py::array& ids, const Array<std::int64_t>& offsets) {
  return with_optimum(ids, offsets, std::size_t{0}, [](const rudder::OfflineOptimum& optimum, std::size_t) {
    return optimum.compulsory();
  });
}

}  // namespace

void register_replay(py::module_& m) {
  m.def("replay", &run_replay, py::arg("ids"), py::arg("offsets"), py::arg("policy"), py::arg("capacity"),
        py::kw_only(), py::arg("prior") = py::none(), py::arg("window") = 0, py::arg("window_rows") = 0,
        py::arg("tumbling") = false, py::arg("depth") = 0, py::arg("prefill") = false, py::arg("observe") = 0,
        py::arg("period") = 32, py::arg("alpha") = 0.05);
  m.def("policy_summary", &rudder::policy_summary, py::arg("name"));
  m.def("offline_optimum", &offline_optimum, py::arg("ids"), py::arg("offsets"), py::arg("capacity"));
  m.def("compulsory", &compulsory, py::arg("ids"), py::arg("offsets"));
  m.def("static_oracle", &static_oracle, py::arg("ids"), py::arg("offsets"), py::arg("capacity"));
}
