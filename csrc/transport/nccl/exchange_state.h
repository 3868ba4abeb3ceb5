// What the callers of an exchange and its worker's thread share. It outlives both, so that a worker that NCCL
// does not let come back can be left behind.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <utility>

#include "transport/nccl/cuda_api.h"
#include "transport/nccl/exchange.h"
#include "transport/nccl/peers.h"

namespace rudder::nccl {

using Clock = std::chrono::steady_clock;

struct Exchange::State {
  explicit State(Config given)
      : config(std::move(given)),
        parts(config.part_starts, static_cast<PartId>(config.rank)),
        nccl(open_nccl(config.nccl_files)),
        cuda(open_cuda(config.cuda_files, config.device)),
        serving(serving_of(cuda.type_of(config.shard))),
        peers(config.rank, config.sockets) {}

  Serving serving_of(MemoryType shard) const {
    if (shard == kUnregistered) return Serving::kProcessor;
    if (config.gather) return Serving::kKernel;
    return shard == kDevice ? Serving::kCopies : Serving::kProcessor;
  }

  // The worker is in a call or a wait that ends by then, or is lost.
  void doing(const char* what, Clock::time_point by) {
    phase.store(what, std::memory_order_relaxed);
    answer_by.store(by.time_since_epoch().count(), std::memory_order_release);
  }
  void idle() { doing("", Clock::time_point::max()); }
  Clock::time_point due() const {
    return Clock::time_point(Clock::duration(answer_by.load(std::memory_order_acquire)));
  }

  // REQUIRES the lock. Ends every round that waits; later calls throw the same.
  void fail(FailurePtr why) {
    if (!failure) failure = std::move(why);
    for (const RoundPtr& round : queue) {
      round->failure_ = failure;
      round->finished_.store(true, std::memory_order_release);
    }
    queue.clear();
    changed.notify_all();
  }
  // REQUIRES the lock. The worker has not come back in time.
  void give_up() {
    stranded = true;
    fail(std::make_shared<const Failure>(Failure{ErrorCode::kDeadline,
                                                 std::string("NCCL does not come back from ") +
                                                     phase.load(std::memory_order_relaxed) +
                                                     "; what it may still write to is kept for ever",
                                                 -1,
                                                 {},
                                                 {}}));
  }

  Config config;
  const PartMap parts;
  const Api nccl;
  const Cuda cuda;
  const Serving serving;
  Peers peers;  // the worker's, but for wake()

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<RoundPtr> queue;
  bool ready = false;      // every rank has come
  bool ended = false;      // the worker touches nothing any more
  bool stranded = false;   // the worker was given up
  bool unsettled = false;  // it ended, but not all that it had queued on its stream
  FailurePtr failure;
  std::atomic<bool> closing{false};

  std::atomic<const char*> phase{""};
  std::atomic<Clock::rep> answer_by{Clock::time_point::max().time_since_epoch().count()};
  std::atomic<std::uint64_t> rounds{0}, rows_got{0}, rows_served{0};
};

}  // namespace rudder::nccl
