#include "replay/replay.h"

#include <algorithm>
#include <vector>

#include "ledger/ledger.h"

namespace rudder {
namespace {

// How many minibatches must have entered the window before minibatch t, if `taken` have by now.
std::size_t horizon(const Trace& trace, const Reach& window, std::size_t t, std::size_t taken) {
  if (window.tumbling && taken > t) return taken;
  std::size_t wanted = std::max(taken, t + 1);
  // A tumbling window counts the minibatch that is executed first among its own.
  const std::size_t ahead = window.minibatches - (window.tumbling && window.minibatches > 0 ? 1 : 0);
  while (wanted < trace.minibatches() &&
         (wanted - t - 1 < ahead || trace.begin(wanted) - trace.end(t) < window.rows))
    ++wanted;
  return wanted;
}

}  // namespace

void advance(Ledger& ledger, const Trace& trace, const Reach& window, std::size_t begin, std::size_t end,
             const std::function<void(const Verdict&)>& visit) {
  std::vector<NodeId> scratch;
  std::size_t taken = begin + ledger.window().minibatches();
  for (std::size_t t = begin; t < end; ++t) {
    for (const std::size_t wanted = horizon(trace, window, t, taken); taken < wanted; ++taken)
      ledger.foresee(trace.ids(taken, scratch));
    visit(ledger.execute());
  }
}

Totals replay(const Trace& trace, const ReplayConfig& config) {
  Ledger ledger({.id_space = trace.id_space(), .policy = config.policy, .depth = config.depth});
  Totals result;
  const auto count = [&result](const Verdict& verdict) { result.count(verdict); };
  // A minibatch of no rows lets a policy fill the buffer before the first real one.
  if (config.policy.prefill) count(ledger.execute_now({}));
  // Without a window nothing is foreseen (staging needs it: only foreseen minibatches are staged for later
  // ones).
  if (config.window.minibatches == 0 && config.window.rows == 0 && config.depth == 0) {
    std::vector<NodeId> scratch;
    for (std::size_t t = 0; t < trace.minibatches(); ++t) count(ledger.execute_now(trace.ids(t, scratch)));
    return result;
  }
  advance(ledger, trace, config.window, 0, trace.minibatches(), count);
  return result;
}

}  // namespace rudder
