// A UCP context and worker with the one thread that progresses it. The worker is single-threaded: whatever
// touches UCX runs on that thread, as a task or as the owner's step. The thread spins shortly after work,
// then arms the worker and sleeps until UCX, a task or a due time wakes it.
#pragma once

#include <ucp/api/ucp.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "transport/ucx/admission.h"
#include "transport/ucx/context.h"
#include "transport/ucx/endpoint.h"

namespace rudder::ucx {

class Worker {
 public:
  using Clock = std::chrono::steady_clock;
  using Task = std::function<void()>;
  // Runs after every round of progress; says when it wants to run again at the latest.
  using Step = std::function<std::optional<Clock::time_point>()>;

  // Throws Error(kConfig) for settings that UCX does not know, Error(kTransport) where nothing can be opened.
  explicit Worker(const WorkerConfig& config);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  const std::vector<std::byte>& address() const { return address_; }
  // On the thread, or before start.
  ucp_worker_h handle() const { return worker_.get(); }
  // Who may connect to the worker over TCP; nobody at first. It is there as long as the worker is, and of no
  // effect after stop.
  Admission& admission() { return *admission_; }
  const Admission& admission() const { return *admission_; }
  const Context& context() const { return context_; }
  // Why there are no one-sided gets over this connection; empty where there are. On the thread.
  std::string why_no_gets(const Endpoint& endpoint) const;
  // As Context::expose. On the thread, or before start.
  MemoryKey expose(std::span<const std::byte> memory) { return context_.expose(memory); }

  // Handlers run on the thread. Before start() only.
  void on_message(unsigned id, ucp_am_recv_callback_t handler, void* owner);
  void start(Step step);

  // Any thread. False after stop: the task is dropped.
  bool post(Task task);
  // Runs the task on the thread and waits; an exception of it is thrown here. False after stop.
  bool call(const Task& task);
  // Makes the step run soon; any thread.
  void wake();
  // Runs `last` on the thread, waits for endpoints to close, ends the thread. Idempotent; not on the thread.
  void stop(const Task& last);

  // On the thread: closes by force, which fails what is under way. `closed` (may be null) is called when UCX
  // has let go of all memory that belonged to it.
  void close(std::unique_ptr<Endpoint> endpoint, Task closed);

 private:
  struct Closing {
    std::unique_ptr<Endpoint> endpoint;
    ucs_status_ptr_t request;
    Task closed;
  };

  // Wakes the thread, from any other.
  class Bell {
   public:
    Bell();
    ~Bell();
    Bell(const Bell&) = delete;
    Bell& operator=(const Bell&) = delete;
    int fd() const { return fd_; }
    void ring() const;
    void hush() const;

   private:
    int fd_;
  };
  struct Destroy {
    void operator()(ucp_worker_h worker) const { ucp_worker_destroy(worker); }
  };

  // False where strangers had connected before the lock was there.
  bool open();
  void destroy();
  void run();
  void run_tasks();
  void reap();
  // The thread's end: until nothing is under way any more, or time is up.
  void settle();
  void sleep(std::optional<Clock::time_point> due);

  const Bell bell_;
  Context context_;
  std::unique_ptr<ucp_worker, Destroy> worker_;
  int ucx_fd_ = -1;
  std::vector<std::byte> address_;
  std::unique_ptr<Admission> admission_;
  Step step_;
  std::vector<Closing> closing_;  // owned by the thread
  bool quiet_ = true;             // nothing under way: may be destroyed. Set by the thread at its end.

  std::mutex mutex_;
  std::vector<Task> tasks_;
  bool stopping_ = false;
  std::mutex joining_;
  std::thread thread_;
};

}  // namespace rudder::ucx
