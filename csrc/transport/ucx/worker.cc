#include "transport/ucx/worker.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <utility>

#include "common/error.h"
#include "transport/ucx/capabilities.h"

namespace rudder::ucx {
namespace {

// The calls used are those of this version, whatever headers are built against: an older library then serves
// as well, without a warning.
constexpr unsigned kApiMajor = 1, kApiMinor = 13;
// Rounds without an event before the thread sleeps: some microseconds, less than a sleep costs.
constexpr int kIdleRounds = 32;
constexpr auto kCloseTime = std::chrono::seconds(2);
constexpr std::size_t kMaxAddress = 4096;  // ours have some hundred bytes
// Workers thrown away because somebody connected before the lock was on their ports.
constexpr int kOpenings = 8;

[[noreturn]] void refuse(ErrorCode code, const std::string& what, ucs_status_t status) {
  throw Error(code, what + ": " + text_of(status));
}

void modify(ucp_config_t* config, const char* name, const std::string& value) {
  if (value.empty()) return;
  if (const auto status = ucp_config_modify(config, name, value.c_str()); status != UCS_OK) {
    ucp_config_release(config);
    refuse(ErrorCode::kConfig, std::string("UCX takes no ") + name + "=" + value, status);
  }
}

}  // namespace

std::string text_of(ucs_status_t status) { return ucs_status_string(status); }

Endpoint::Endpoint(Worker& worker, std::span<const std::byte> address, OnError on_error)
    : on_error_(std::move(on_error)) {
  // UCX reads an address without knowing its length, and stops the process at one of another format. The low
  // half of the first byte is that format; zeros behind a cut address end what is read of it.
  constexpr std::byte kFormat{0x0f};
  if (address.size() < 8 || address.size() > kMaxAddress ||
      (address.front() & kFormat) != (worker.address().front() & kFormat))
    throw Error(ErrorCode::kTransport, std::to_string(address.size()) + " bytes that are no address of UCX");
  std::vector<std::byte> padded(address.begin(), address.end());
  padded.resize(address.size() + kMaxAddress);
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(padded.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler = {&Endpoint::failed, this};
  if (const auto status = ucp_ep_create(worker.handle(), &params, &endpoint_); status != UCS_OK)
    refuse(ErrorCode::kTransport, "UCX cannot reach that address", status);
}

void Endpoint::failed(void* self, ucp_ep_h, ucs_status_t status) {
  auto& endpoint = *static_cast<Endpoint*>(self);
  if (endpoint.on_error_) std::exchange(endpoint.on_error_, nullptr)(text_of(status));
}

void Worker::open_context(const WorkerConfig& config, std::uint64_t features) {
  ucp_config_t* settings = nullptr;
  if (const auto status = ucp_config_read(nullptr, nullptr, &settings); status != UCS_OK)
    refuse(ErrorCode::kConfig, "UCX's settings cannot be read (look at the UCX_* variables)", status);
  modify(settings, "NET_DEVICES", config.devices);
  modify(settings, "TLS", config.tls);
  // Gets that UCX would play by messages are worse than our own requests. 1.13 has no such setting, and would
  // complain.
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  if (features != 0 && !config.emulate_gets && std::pair(major, minor) > std::pair(kApiMajor, kApiMinor))
    (void)ucp_config_modify(settings, "PROTO_EMULATION_ENABLE", "n");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP | features;
  const auto opened = ucp_init_version(kApiMajor, kApiMinor, &params, settings, &context_);
  ucp_config_release(settings);
  if (opened != UCS_OK)
    refuse(ErrorCode::kTransport,
           "UCX finds no transport (UCX_TLS=" + config.tls + ", UCX_NET_DEVICES=" + config.devices + ")",
           opened);
}

Worker::Worker(const WorkerConfig& config) : emulates_(config.emulate_gets) {
  open_context(config, 0);
  transports_ = transports_of(context_);
  offloads_ = std::ranges::any_of(transports_, [](const auto& name) { return reads_memory(name); });
  if (offloads_ || emulates_) {
    ucp_cleanup(context_);
    open_context(config, UCP_FEATURE_RMA);
  } else {
    why_no_gets_ = "UCX finds no RDMA device";
  }
  for (int i = 0; i < kOpenings && worker_ == nullptr; ++i) open();
  if (worker_ == nullptr) {
    ucp_cleanup(context_);
    throw Error(ErrorCode::kTransport, "strangers keep connecting to UCX's ports while they are opened");
  }
}

void Worker::open() {
  // So that two workers do not take each other's ports for their own.
  static std::mutex opening;
  const std::lock_guard one_at_a_time(opening);
  const bool tcp =
      std::ranges::any_of(transports_, [](const auto& name) { return name.starts_with("tcp/"); });
  const auto before = tcp ? Admission::listening() : std::vector<Listener>();

  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  if (const auto status = ucp_worker_create(context_, &params, &worker_); status != UCS_OK) {
    ucp_cleanup(context_);
    refuse(ErrorCode::kTransport, "UCX cannot open a worker", status);
  }
  ucp_address_t* address = nullptr;
  std::size_t size = 0;
  ucs_status_t status = ucp_worker_get_efd(worker_, &ucx_fd_);
  if (status == UCS_OK) status = ucp_worker_get_address(worker_, &address, &size);
  if (status == UCS_OK && wake_fd_ < 0) wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (status != UCS_OK || wake_fd_ < 0) {
    ucp_worker_destroy(worker_);
    ucp_cleanup(context_);
    refuse(ErrorCode::kTransport, "UCX's worker cannot be waited for", status);
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(address);
  address_.assign(bytes, bytes + size);
  ucp_worker_release_address(worker_, address);

  admission_ = tcp ? std::make_unique<Admission>(before, address_) : std::make_unique<Admission>();
  if (!admission_->intruded()) return;
  ucp_worker_destroy(worker_);
  worker_ = nullptr;
}

Worker::~Worker() {
  stop(nullptr);
  // One that never came to rest is left behind: lost memory, where UCX might stop the process.
  if (quiet_) destroy();
  ::close(wake_fd_);
}

void Worker::destroy() {
  if (worker_ == nullptr) return;
  admission_.reset();  // its ports are UCX's, and go away now
  for (const ucp_mem_h memory : exposed_) ucp_mem_unmap(context_, memory);
  ucp_worker_destroy(worker_);
  ucp_cleanup(context_);
  worker_ = nullptr;
}

std::string Worker::why_no_gets(const Endpoint& endpoint) const {
  if (!why_no_gets_.empty() || emulates_) return why_no_gets_;
  if (reads_memory(endpoint.handle())) return {};
  return "the connection is not by RDMA";
}

std::vector<std::byte> Worker::expose(std::span<const std::byte> memory) {
  ucp_mem_map_params_t params{};
  params.field_mask =
      UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_PROT;
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): UCX only reads it, as `prot` says
  params.address = const_cast<std::byte*>(memory.data());
  params.length = memory.size();
  params.prot = UCP_MEM_MAP_PROT_LOCAL_READ | UCP_MEM_MAP_PROT_REMOTE_READ;
  ucp_mem_h handle = nullptr;
  if (ucp_mem_map(context_, &params, &handle) != UCS_OK) return {};
  exposed_.push_back(handle);
  void* key = nullptr;
  std::size_t size = 0;
  if (ucp_rkey_pack(context_, handle, &key, &size) != UCS_OK) return {};
  const auto* bytes = static_cast<const std::byte*>(key);
  std::vector<std::byte> packed(bytes, bytes + size);
  ucp_rkey_buffer_release(key);
  return packed;
}

void Worker::on_message(unsigned id, ucp_am_recv_callback_t handler, void* owner) {
  ucp_am_handler_param_t params{};
  params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                      UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  params.id = id;
  params.flags = UCP_AM_FLAG_WHOLE_MSG;
  params.cb = handler;
  params.arg = owner;
  if (const auto status = ucp_worker_set_am_recv_handler(worker_, &params); status != UCS_OK)
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

void Worker::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = write(wake_fd_, &one, sizeof(one));
}

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
    for (unsigned n; events < 64 && (n = ucp_worker_progress(worker_)) != 0;) events += n;
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
    ucp_worker_progress(worker_);
    reap();
    ucp_request_param_t params{};
    const ucs_status_ptr_t flush = ucp_worker_flush_nbx(worker_, &params);
    if (!UCS_PTR_IS_PTR(flush)) {
      quiet_ = closing_.empty();
      continue;
    }
    while (ucp_request_check_status(flush) == UCS_INPROGRESS && Clock::now() < until) {
      ucp_worker_progress(worker_);
      std::this_thread::yield();
    }
    ucp_request_free(flush);
  }
  // A device that goes on writing by itself must be stopped before the destinations are given back.
  if (!quiet_ && offloads_) destroy();
}

void Worker::sleep(std::optional<Clock::time_point> due) {
  // An endpoint that closes gives no event: look again soon.
  if (!closing_.empty())
    due = std::min(due.value_or(Clock::time_point::max()), Clock::now() + std::chrono::milliseconds(1));
  if (const auto armed = ucp_worker_arm(worker_); armed == UCS_ERR_BUSY) {
    return;  // something has come meanwhile
  } else if (armed != UCS_OK) {
    due = std::min(due.value_or(Clock::time_point::max()), Clock::now() + std::chrono::milliseconds(1));
  }
  int timeout = -1;
  if (due) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*due - Clock::now()).count();
    timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
  }
  pollfd fds[2] = {{ucx_fd_, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
  if (poll(fds, 2, timeout) > 0 && (fds[1].revents & POLLIN) != 0) {
    std::uint64_t count;
    [[maybe_unused]] const auto got = read(wake_fd_, &count, sizeof(count));
  }
}

}  // namespace rudder::ucx
