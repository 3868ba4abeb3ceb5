// The worker of an exchange: the one thread that talks to NCCL, to the GPU and to the other ranks. It runs
// the rounds, one after another; between them it listens to the peers, so that a failure is known before the
// next round meets it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/thread_pool.h"
#include "transport/nccl/buffer.h"
#include "transport/nccl/communicator.h"
#include "transport/nccl/exchange_state.h"

namespace rudder::nccl {

class Worker {
 public:
  // `state` outlives it.
  explicit Worker(Exchange::State& state);

  // Until the exchange is closed, or has failed.
  void run();

 private:
  // What a wait looks at: the peers, who wake it up, or the device, which has to be asked.
  enum class For { kPeers, kDevice };

  void open();
  void serve();
  void part();
  // Tells the peers, and ends NCCL.
  void fail(const FailurePtr& failure);
  // Ends NCCL, and waits until the stream has ended, too: NCCL ends its own work there, not the copies and
  // kernels of rounds. Where one of them does not end, or NCCL refuses, no memory is given back, neither here
  // nor by the callers.
  void abort();
  // Has all that was queued ended? Not later than that.
  bool stream_ends(Clock::time_point by);

  void run(Round& round);
  void agree_on(Round& round);
  void trade_row_numbers(const Round& round);
  void check_row_numbers() const;
  void trade_rows(Round& round);
  // Queues on the stream, or does at once: serving[i] = shard[rows[i]].
  void gather(std::span<const std::int64_t> rows, std::byte* serving);
  void trade(const std::vector<Communicator::Transfer>& sends,
             const std::vector<Communicator::Transfer>& receives, DataType type, const char* what);
  void drain_stream(const char* what);

  // Throws FetchError(kDeadline) where ready() is not true in time, and what the peers' failures throw.
  template <class Ready>
  void wait_until(Ready ready, For what_for, const char* what);
  [[noreturn]] void overdue(For what_for, const char* what);
  // Why a wait failed is not known: finds a peer that is gone or does not answer, and names it.
  [[noreturn]] void inquire(ErrorCode code, const std::string& text);

  std::size_t ranks() const { return counts_.size(); }
  bool own(std::size_t peer) const { return static_cast<int>(peer) == state_.peers.rank(); }
  bool by_nccl(std::size_t peer) const { return !own(peer) || state_.config.self_by_nccl; }

  Exchange::State& state_;
  const Exchange::Config& config_;
  const Cuda& cuda_;
  Peers& peers_;
  Communicator comm_;
  ThreadPool pool_;
  void* stream_ = nullptr;
  EventHandle event_ = nullptr;

  std::uint64_t number_ = 0;          // of the round, from 1
  std::vector<std::int64_t> counts_;  // rows that this rank wants, by owner
  std::vector<std::int64_t> asked_;   // rows that it is asked for, by asker
  std::size_t asked_rows_ = 0;        // all of them
  Buffer wanted_;                     // row numbers to send
  Buffer asked_for_;                  // row numbers received, asker after asker
  Buffer serving_;                    // rows to send, asker after asker
};

}  // namespace rudder::nccl
