// A GPU made of this process's memory, for tests and machines without one: it runs all of Rudder's code but
// the CUDA calls themselves. Work happens when it may happen on a GPU, not when it is asked for, so what is
// read too early or overwritten too soon shows; and memory that a GPU could not reach is an error, as there,
// be it read or written, and named by address, slot or number.
// Always runs.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda/runtime.h"

namespace rudder::cuda {

class Simulated final : public Runtime {
 public:
  // When work on a stream is done.
  enum class Mode {
    kEager,   // before the call returns
    kManual,  // in step() and run(), by whoever calls them
    kThread,  // on a thread, one piece of a random stream after another
  };
  struct Faults {
    std::string refuse_pinning;    // host_register refuses, with this reason
    std::string refuse_read_only;  // the same for read-only memory alone
    std::string fail;              // work fails from now on, as after an illegal access
    std::string mute;              // events are not answered, as CUDA may refuse to during a capture
    std::string call;              // "copy", "copy_rows" or "record" throws, and queues nothing
  };

  // memory_bytes: of device memory; 0: without bound. seed: of kThread's order.
  explicit Simulated(Mode mode, std::size_t memory_bytes = 0, std::uint32_t seed = 1);
  ~Simulated() override;

  void inject(Faults faults);
  // kManual: does the oldest piece of work of some stream (of this one); false where there is none.
  bool step();
  bool step(Stream stream);
  // Does all of it.
  void run();

  std::size_t launches() const { return launches_; }
  std::size_t slot_launches() const { return slot_launches_; }  // of them, over lists of 4-byte slots
  std::size_t waits() const { return waits_; }
  // Memory of the caller counts as the device's from now on: what it holds may be looked at without a copy.
  void lend(void* memory, std::size_t bytes);
  void take_back(void* memory);
  std::size_t allocated() const;   // bytes of device memory
  std::size_t registered() const;  // ranges of host memory

  std::string name() const override { return "simulated GPU"; }
  bool host_register(void* memory, std::size_t bytes, bool read_only, std::string& refusal) override;
  void host_unregister(void* memory) noexcept override;
  void* host_allocate(std::size_t bytes) override;
  void host_free(void* memory) noexcept override;
  void* allocate(std::size_t bytes) override;
  void free(void* memory) noexcept override;
  void copy(void* to, const void* from, std::size_t bytes, Stream stream) override;
  void copy_rows(const RowCopies& job, Stream stream) override;
  Stream make_stream() override;
  void destroy(Stream stream) noexcept override;
  Event make_event() override;
  void destroy_event(Event event) noexcept override;
  void record(Event event, Stream stream) override;
  bool done(Event event) override;
  void wait(Event event) override;

 private:
  enum class Kind { kRegistered, kPinned, kDevice, kLent };
  struct Memory {
    std::size_t bytes;
    Kind kind;
  };
  struct Recorded {
    std::uint64_t last = 0, finished = 0;
  };
  using Work = std::function<void()>;

  void enqueue(Stream stream, Work work);
  bool do_one(std::unique_lock<std::mutex>& lock, Stream stream);
  bool do_any(std::unique_lock<std::mutex>& lock);
  bool reachable(const void* memory, std::size_t bytes) const;  // REQUIRES mutex_
  void check(bool fine, const char* what);
  void check_rows(const RowCopies& job);
  void raise_fault() const;                    // REQUIRES mutex_
  void raise_refusal(const char* call) const;  // REQUIRES mutex_
  void drive();

  const Mode mode_;
  const std::size_t memory_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uintptr_t, Memory> memory_;
  std::map<Stream, std::deque<Work>> streams_;
  std::map<Stream, bool> busy_;  // a piece of its work is being done
  std::map<Event, Recorded> events_;
  Faults faults_;
  std::uintptr_t next_handle_ = 1;
  std::size_t used_ = 0;
  std::mt19937 random_;
  std::atomic<std::size_t> launches_{0}, slot_launches_{0}, waits_{0};
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace rudder::cuda
