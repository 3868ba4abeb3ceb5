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

namespace rudder::ucx {

struct WorkerConfig {
  std::string devices;  // as UCX_NET_DEVICES; empty: UCX decides
  std::string tls;      // as UCX_TLS; empty: UCX decides
  // One-sided gets also where no hardware does them and UCX plays them by messages, slowly: for tests.
  bool emulate_gets = false;
};

class Worker;

// A connection to another worker, in the error mode that notices a dead peer. Lives on the worker's thread.
class Endpoint {
 public:
  using OnError = std::function<void(const std::string& why)>;
  // `on_error` is called at most once, on the worker's thread, and may not destroy the endpoint. Throws
  // Error(kTransport) for an address that UCX refuses.
  Endpoint(Worker& worker, std::span<const std::byte> address, OnError on_error);
  ~Endpoint() = default;
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  ucp_ep_h handle() const { return endpoint_; }

 private:
  friend class Worker;
  static void failed(void* self, ucp_ep_h endpoint, ucs_status_t status);

  ucp_ep_h endpoint_ = nullptr;
  OnError on_error_;
};

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
  ucp_worker_h handle() const { return worker_; }
  // Who may connect to the worker over TCP; nobody at first.
  Admission& admission() { return *admission_; }
  const Admission& admission() const { return *admission_; }
  // What UCX may use between hosts: "tcp/eth0", "rc_mlx5/mlx5_0:1".
  const std::vector<std::string>& transports() const { return transports_; }
  // Whether one of them reads and writes memory by itself, as RDMA does.
  bool offloads() const { return offloads_; }
  // Why this worker has no one-sided gets; empty where it has.
  const std::string& why_no_gets() const { return why_no_gets_; }
  // Why there are none over this connection; empty where there are. On the thread.
  std::string why_no_gets(const Endpoint& endpoint) const;
  // Registers memory that outlives the worker, so that sending from it needs no more registering and peers
  // may read it; the key for them, empty where UCX refuses. On the thread, or before start.
  std::vector<std::byte> expose(std::span<const std::byte> memory);

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

  void open_context(const WorkerConfig& config, std::uint64_t features);
  void open();
  void destroy();
  void run();
  void run_tasks();
  void reap();
  // The thread's end: until nothing is under way any more, or time is up.
  void settle();
  void sleep(std::optional<Clock::time_point> due);

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int ucx_fd_ = -1;
  int wake_fd_ = -1;
  std::vector<std::byte> address_;
  std::vector<std::string> transports_;
  bool offloads_ = false;
  bool emulates_ = false;
  std::string why_no_gets_;
  std::vector<ucp_mem_h> exposed_;
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

// "Connection reset by remote peer" and the like.
std::string text_of(ucs_status_t status);

}  // namespace rudder::ucx
