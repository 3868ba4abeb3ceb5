// Callback: rows pulled by a function of the embedding program on a thread of the transport. With DistDGL's
// own KVStore as the function it works on every existing deployment with nothing else running: the `kvstore`
// transport.
//
// One pull runs at a time (DGL's RPC client allows no more); one pull carries every peer of a ticket. A pull
// cannot be interrupted: cancel() only makes sure that its answer is thrown away.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/transport.h"

namespace rudder {

class Callback final : public Transport {
 public:
  // Hands the answer over; false where its size is not what was asked for (the pull then counts as failed).
  using Deliver = std::function<bool(std::span<const std::byte>)>;
  // parts[i] owns row number rows[i]; parts ascend. Calls `deliver` once with all rows; throws std::exception
  // on failure.
  using Pull = std::function<void(TableId table, std::span<const std::int64_t> parts,
                                  std::span<const std::int64_t> rows, const Deliver& deliver)>;

  // places[p]: where partition p's rows come from, as `place` has it; beyond its end that is not known.
  Callback(std::string name, Pull pull, std::vector<std::string> places = {});
  ~Callback() override;

  std::string name() const override { return name_; }
  std::string place(PartId peer) const override;
  Reach reach(PartId, TableId, std::size_t) const override { return {}; }
  bool merges_peers() const override { return true; }
  void submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) override;
  void cancel(Ticket ticket) override;
  // Waits for a pull in progress, since its function may use what the caller is about to tear down, but not
  // for ever: a pull from a dead server never returns, and its thread is then left to itself (it owns all
  // that it touches).
  void close() override;

 private:
  struct State;
  static void work(const std::shared_ptr<State>& state);

  const std::string name_;
  const std::vector<std::string> places_;
  const std::shared_ptr<State> state_;
};

}  // namespace rudder
