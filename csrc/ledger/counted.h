// A ledger with its totals, and checks of what it REQUIRES: for callers that hold no rows.
// Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "ledger/ledger.h"
#include "ledger/totals.h"

namespace rudder {

class CountedLedger {
 public:
  // What is left out stays.
  struct Change {
    std::optional<std::size_t> capacity, depth;
    std::shared_ptr<const Prior> prior;
    std::optional<bool> replace;
    std::optional<std::uint32_t> fraction;
    std::optional<std::uint64_t> observe;
  };

  explicit CountedLedger(const LedgerConfig& config) : id_space_(config.id_space), ledger_(config) {}

  void check(std::span<const NodeId> ids) const;
  // All that take ids throw Error(kOutOfRange) for one outside of [0, id space).
  Seq foresee(std::span<const NodeId> ids);
  // Both return the rows moved. The first throws Error(kState) where the window is empty.
  std::size_t execute();
  std::size_t read(std::span<const NodeId> ids);
  void steer(Change change);
  void drop_pending() { ledger_.drop_pending(); }
  void invalidate(std::span<const NodeId> ids);

  std::int64_t id_space() const { return id_space_; }
  const Totals& totals() const { return totals_; }
  std::uint64_t minibatches() const { return minibatches_; }
  std::uint64_t rows_evicted() const { return rows_evicted_; }
  const Ledger& ledger() const { return ledger_; }
  // For `advance`, whose verdicts are then given to `count`.
  Ledger& ledger() { return ledger_; }
  std::size_t count(const Verdict& verdict);

 private:
  std::int64_t id_space_;
  Ledger ledger_;
  Totals totals_;
  std::uint64_t minibatches_ = 0, rows_evicted_ = 0;
};

}  // namespace rudder
