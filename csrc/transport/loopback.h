// Loopback: the "peers" are tables in this process's memory. For one-process use and for tests, where it can
// also stall, fail and delay on demand. Always runs.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "transport/transport.h"

namespace rudder {

class Loopback final : public Transport {
 public:
  struct Faults {
    std::chrono::nanoseconds delay{0};
    bool stall = false;     // accept and never complete
    std::string fail;       // complete as failed, with this message
    std::size_t after = 0;  // leave this many gathers alone first
  };

  Loopback();
  ~Loopback() override;

  // The rows must outlive the transport (or its close()). Throws Error(kConfig) for rows of no bytes.
  void expose(PartId peer, TableId table, const std::byte* rows, std::size_t count, std::size_t row_bytes);
  void inject(Faults faults);

  std::string name() const override { return "loopback"; }
  std::string place(PartId) const override { return "this process"; }
  Reach reach(PartId peer, TableId table, std::size_t row_bytes) const override;
  void submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) override;
  void cancel(Ticket ticket) override;
  void close() override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Table {
    const std::byte* rows;
    std::size_t count;
    std::size_t row_bytes;
  };
  struct Delayed {
    Clock::time_point due;
    std::vector<Gather> gathers;
    std::shared_ptr<CompletionSink> sink;
  };

  // Copies under the lock, so that cancel() means what it says. Empty string: done.
  std::string copy(const std::vector<Gather>& gathers) const;
  Reach reach_locked(PartId peer, TableId table, std::size_t row_bytes) const;
  void deliver_delayed();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<PartId, TableId>, Table> tables_;
  std::map<Ticket, Delayed> delayed_;
  Faults faults_;
  bool closed_ = false;
  std::thread clock_;
};

}  // namespace rudder
