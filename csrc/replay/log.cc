#include "replay/log.h"

#include <cstddef>
#include <string>
#include <vector>

#include "common/error.h"

namespace rudder {
namespace {

struct Requested {
  std::uint64_t rows, hits, merged;
};

[[noreturn]] void refuse(std::size_t call, const std::string& why) {
  throw Error(ErrorCode::kFormat,
              "the log of calls cannot be replayed: call " + std::to_string(call) + " " + why);
}

}  // namespace

Totals replay_log(std::span<const LogCall> calls, std::span<const std::shared_ptr<const Prior>> priors,
                  LedgerConfig config) {
  std::size_t next_prior = 0;
  const auto take_prior = [&](std::size_t call) {
    if (next_prior == priors.size()) refuse(call, "brings a prior that was not given");
    return priors[next_prior++];
  };
  std::size_t at = 0;
  if (!calls.empty() && calls[0].name == "prior") config.policy.prior = take_prior(at++);

  const std::int64_t id_space = config.id_space;
  Ledger ledger(config);
  Totals result;
  // By executed minibatch, in order: the last ones may yet be dropped.
  std::vector<Requested> executed;
  const auto count = [&result](const Verdict& verdict) {
    result.count(verdict);
    return Requested{verdict.rows.size(), verdict.hits, verdict.merged};
  };
  for (; at < calls.size(); ++at) {
    const LogCall& call = calls[at];
    for (const NodeId id : call.ids)
      if (value(id) < 0 || value(id) >= id_space)
        refuse(at, "names row " + std::to_string(value(id)) + " of " + std::to_string(id_space));
    if (call.name == "foresee") {
      ledger.foresee(call.ids);
    } else if (call.name == "execute") {
      if (ledger.window().empty()) refuse(at, "executes a minibatch that was not foreseen");
      executed.push_back(count(ledger.execute()));
    } else if (call.name == "read") {
      count(ledger.execute_now(call.ids));
    } else if (call.name == "drop") {
      if (call.number > executed.size()) refuse(at, "drops more minibatches than were executed");
      for (std::uint64_t dropped = 0; dropped < call.number; ++dropped) {
        result.rows_requested -= executed.back().rows;
        result.hits -= executed.back().hits;
        result.merged -= executed.back().merged;
        executed.pop_back();
      }
      ledger.drop_pending();
    } else if (call.name == "invalidate") {
      for (const NodeId id : call.ids) ledger.invalidate(id);
      result.rows_moved += call.number;
    } else if (call.name == "capacity") {
      ledger.set_capacity(call.number);
    } else if (call.name == "depth") {
      ledger.set_depth(call.number);
    } else if (call.name == "prior") {
      ledger.set_prior(take_prior(at));
    } else if (call.name == "replace") {
      ledger.allow_replacement(call.number != 0);
    } else if (call.name == "fraction") {
      if (call.number > 100) refuse(at, "replaces " + std::to_string(call.number) + "% of the buffer");
      ledger.limit_replacement(static_cast<std::uint32_t>(call.number));
    } else if (call.name == "unstage") {
      ledger.unstage(call.number);
    } else if (call.name == "observe") {
      ledger.observe(call.number);
    } else {
      refuse(at, "is unknown: \"" + std::string(call.name) + "\"");
    }
  }
  return result;
}

}  // namespace rudder
