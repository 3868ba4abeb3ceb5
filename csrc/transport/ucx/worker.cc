#include "transport/ucx/worker.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <system_error>
#include <utility>

#include "common/error.h"
#include "transport/ucx/capabilities.h"

namespace rudder::ucx {
namespace {

// Rounds without an event before the thread sleeps: some microseconds, less than a sleep costs.
constexpr int kIdleRounds = 32;
constexpr auto kCloseTime = std::chrono::seconds(2);
// Workers thrown away because somebody connected before the lock was on their ports.
constexpr int kOpenings = 8;

}  // namespace

Worker::Bell::Bell() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0)
    throw Error(ErrorCode::kTransport,
                "no descriptor to wait for a worker with: " + std::generic_category().message(errno));
}

Worker::Bell::~Bell() { ::close(fd_); }

void Worker::Bell::ring() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(fd_, &one, sizeof(one));
}

void Worker::Bell::hush() const {
  std::uint64_t count;
  [[maybe_unused]] const auto got = read(fd_, &count, sizeof(count));
}

Worker::Worker(const WorkerConfig& config) : context_(config) {
  for (int i = 0; i < kOpenings; ++i)
    if (open()) return;
  throw Error(ErrorCode::kTransport, "strangers keep connecting to UCX's ports while they are opened");
}

bool Worker::open() {
  // So that two workers do not take each other's ports for their own.
  static std::mutex opening;
  const std::lock_guard one_at_a_time(opening);
  const std::size_t ports = context_.tcp_devices();
  const auto before = ports > 0 ? listening() : std::vector<Listener>();

  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  ucp_worker_h made = nullptr;
  if (const auto status = ucp_worker_create(context_.handle(), &params, &made); status != UCS_OK)
    refuse(ErrorCode::kTransport, "UCX cannot open a worker", status);
  worker_.reset(made);
  ucp_address_t* address = nullptr;
  std::size_t size = 0;
  ucs_status_t status = ucp_worker_get_efd(made, &ucx_fd_);
  if (status == UCS_OK) status = ucp_worker_get_address(made, &address, &size);
  if (status != UCS_OK) refuse(ErrorCode::kTransport, "UCX's worker cannot be waited for", status);
  const auto* bytes = reinterpret_cast<const std::byte*>(address);
  address_.assign(bytes, bytes + size);
  ucp_worker_release_address(made, address);

  admission_ =
      ports > 0 ? std::make_unique<Admission>(before, address_, ports) : std::make_unique<Admission>();
  if (!admission_->intruded()) return true;
  worker_.reset();
  return false;
}

Worker::~Worker() {
  stop(nullptr);
  if (quiet_) {
    destroy();
  } else {
    // One that never came to rest is left behind: lost memory, where UCX might stop the process.
    (void)worker_.release();  // NOLINT(bugprone-unused-return-value)
    context_.abandon();
  }
}

void Worker::destroy() {
  admission_->close();  // its ports are UCX's, and go away now
  worker_.reset();
  context_.close();
}

std::string Worker::why_no_gets(const Endpoint& endpoint) const {
  if (!context_.why_no_gets().empty() || context_.emulates_gets()) return context_.why_no_gets();
  if (reads_memory(endpoint.handle())) return {};
  return "the connection is not by RDMA";
}

void Worker::on_message(unsigned id, ucp_am_recv_callback_t handler, void* owner) {
  ucp_am_handler_param_t params{};
  params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  params.id = id;
  params.flags = UCP_AM_FLAG_WHOLE_MSG;
  params.cb = handler;
  params.arg = owner;
  if (const auto status = ucp_worker_set_am_recv_handler(worker_.get(), &params); status != UCS_OK)
    refuse(ErrorCode::kTransport, "UCX takes no handler", status);
}

void Worker::start(Step step) {
  step_ = std::move(step);
  thread_ = std::thread([this] { run(); });
}

bool Worker::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    tasks_.push_back(std::move(task));
    if (tasks_.size() > 1) return true;  // the thread has been woken for the first of them
  }
  wake();
  return true;
}

bool Worker::call(const Task& task) {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr thrown;  // read by this thread only, once the other has let go of it
  const bool posted = post([&] {
    std::exception_ptr error;
    try {
      task();
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    thrown = std::move(error);
    done = true;
    changed.notify_one();
  });
  if (!posted) return false;
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
  if (thrown) std::rethrow_exception(thrown);
  return true;
}

void Worker::wake() { bell_.ring(); }

void Worker::stop(const Task& last) {
  const std::lock_guard joining(joining_);
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    if (last) tasks_.push_back(last);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void Worker::close(std::unique_ptr<Endpoint> endpoint, Task closed) {
  endpoint->on_error_ = nullptr;
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const ucs_status_ptr_t request = ucp_ep_close_nbx(endpoint->handle(), &params);
  closing_.push_back({std::move(endpoint), request, std::move(closed)});
}

void Worker::reap() {
  std::vector<Task> finished;
  std::erase_if(closing_, [&](Closing& closing) {
    if (UCS_PTR_IS_PTR(closing.request)) {
      if (ucp_request_check_status(closing.request) == UCS_INPROGRESS) return false;
      ucp_request_free(closing.request);
    }
    if (closing.closed) finished.push_back(std::move(closing.closed));
    return true;
  });
  for (const Task& task : finished) task();
}

void Worker::run_tasks() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const Task& task : tasks) task();
}

void Worker::run() {
  int idle = 0;
  for (;;) {
    unsigned events = 0;
    for (unsigned n; events < 64 && (n = ucp_worker_progress(worker_.get())) != 0;) events += n;
    bool stop;
    {
      const std::lock_guard lock(mutex_);
      stop = stopping_;
    }
    run_tasks();
    const auto due = step_();
    if (!closing_.empty()) reap();
    if (stop) break;
    if (events != 0)
      idle = 0;
    else if (++idle >= kIdleRounds) {
      sleep(due);
      idle = kIdleRounds / 2;  // woken for one thing: look less long for the next
    }
  }
  settle();
}

void Worker::settle() {
  // Closed endpoints let go of their sends in later rounds of progress, and a peer that is just connecting is
  // owed an answer: UCX 1.13 stops the process when a worker is destroyed that has one left to send.
  quiet_ = false;
  const auto until = Clock::now() + kCloseTime;
  while (!quiet_ && Clock::now() < until) {
    ucp_worker_progress(worker_.get());
    reap();
    ucp_request_param_t params{};
    const ucs_status_ptr_t flush = ucp_worker_flush_nbx(worker_.get(), &params);
    if (!UCS_PTR_IS_PTR(flush)) {
      quiet_ = closing_.empty();
      continue;
    }
    while (ucp_request_check_status(flush) == UCS_INPROGRESS && Clock::now() < until) {
      ucp_worker_progress(worker_.get());
      std::this_thread::yield();
    }
    ucp_request_free(flush);
  }
  // One that is not quiet is left behind, save where a device would go on writing by itself: that must be
  // stopped before the destinations are given back.
  if (quiet_ || context_.offloads()) destroy();
}

void Worker::sleep(std::optional<Clock::time_point> due) {
  // An endpoint that closes gives no event: look again soon.
  if (!closing_.empty())
    due = std::min(due.value_or(Clock::time_point::max()), Clock::now() + std::chrono::milliseconds(1));
  if (const auto armed = ucp_worker_arm(worker_.get()); armed == UCS_ERR_BUSY) {
    return;  // something has come meanwhile
  } else if (armed != UCS_OK) {
    due = std::min(due.value_or(Clock::time_point::max()), Clock::now() + std::chrono::milliseconds(1));
  }
  int timeout = -1;
  if (due) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*due - Clock::now()).count();
    timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
  }
  pollfd fds[2] = {{ucx_fd_, POLLIN, 0}, {bell_.fd(), POLLIN, 0}};
  if (poll(fds, 2, timeout) > 0 && (fds[1].revents & POLLIN) != 0) bell_.hush();
}

}  // namespace rudder::ucx
