// Replay of a live run's calls, as Prefetcher.drain_record gives them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.h"
#include "register.h"
#include "replay/log.h"

namespace py = pybind11;

namespace {

using Call = std::tuple<std::string, std::uint64_t, arrays::Ids>;

py::dict run_log(const std::vector<Call>& calls, std::int64_t id_space, std::string policy,
                 std::size_t capacity, std::size_t depth,
                 const std::vector<std::shared_ptr<rudder::Prior>>& priors, bool prefill,
                 std::uint64_t observe, std::uint32_t period, double alpha) {
  std::vector<rudder::LogCall> log;
  log.reserve(calls.size());
  for (const auto& [name, number, ids] : calls) log.push_back({name, number, arrays::ids(ids)});
  const std::vector<std::shared_ptr<const rudder::Prior>> given(priors.begin(), priors.end());
  rudder::LedgerConfig config;
  config.id_space = id_space;
  config.policy = {.name = std::move(policy),
                   .capacity = capacity,
                   .prefill = prefill,
                   .observe = observe,
                   .period = period,
                   .alpha = alpha};
  config.depth = depth;
  rudder::Totals result;
  {
    const py::gil_scoped_release release;
    result = rudder::replay_log(log, given, config);
  }
  py::dict answer;
  answer["rows_requested"] = result.rows_requested;
  answer["hits"] = result.hits;
  answer["merged"] = result.merged;
  answer["rows_moved"] = result.rows_moved;
  answer["replacement_rows"] = result.replacement_rows;
  return answer;
}

}  // namespace

void register_replay_log(py::module_& m) {
  m.def("replay_log", &run_log, py::arg("calls"), py::kw_only(), py::arg("id_space"), py::arg("policy"),
        py::arg("capacity"), py::arg("depth") = 0,
        py::arg("priors") = std::vector<std::shared_ptr<rudder::Prior>>{}, py::arg("prefill") = false,
        py::arg("observe") = 0, py::arg("period") = 32, py::arg("alpha") = 0.05);
}
