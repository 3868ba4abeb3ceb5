#include "cuda/simulated.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "common/error.h"

namespace rudder::cuda {
namespace {

// What cudaMalloc promises, and pinned memory has.
constexpr std::align_val_t kAlignment{256};

// As a kernel would: each group of lanes in turn, and each lane of it.
void run_kernel(const RowCopies& job) {
  const unsigned lanes = lanes_of(job.row_bytes, job.vector);
  constexpr std::size_t kGroups = 8;
  dispatch(job, [&]<typename Vector, From kFrom>() {
    for (std::size_t group = 0; group < kGroups; ++group)
      for (unsigned lane = 0; lane < lanes; ++lane)
        copy_rows<Vector, kFrom>(job, group, kGroups, lane, lanes);
  });
}

}  // namespace

Simulated::Simulated(Mode mode, std::size_t memory_bytes, std::uint32_t seed)
    : mode_(mode), memory_bytes_(memory_bytes), random_(seed) {
  if (mode_ == Mode::kThread) thread_ = std::thread([this] { drive(); });
}

Simulated::~Simulated() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Simulated::inject(Faults faults) {
  const std::lock_guard lock(mutex_);
  faults_ = std::move(faults);
}

void Simulated::raise_fault() const {
  if (!faults_.fail.empty()) throw DeviceLost("the simulated GPU failed: " + faults_.fail);
}

void Simulated::raise_refusal(const char* call) const {
  raise_fault();
  if (faults_.call == call) throw Error(ErrorCode::kDevice, std::string("the simulated GPU refused ") + call);
}

// -- memory

bool Simulated::host_register(void* memory, std::size_t bytes, bool read_only, std::string& refusal) {
  const std::lock_guard lock(mutex_);
  refusal = faults_.refuse_pinning;
  if (refusal.empty() && read_only) refusal = faults_.refuse_read_only;
  if (!refusal.empty()) return false;
  memory_[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, Kind::kRegistered};
  return true;
}

void Simulated::host_unregister(void* memory) noexcept {
  const std::lock_guard lock(mutex_);
  memory_.erase(reinterpret_cast<std::uintptr_t>(memory));
}

void* Simulated::host_allocate(std::size_t bytes) {
  void* memory = ::operator new(bytes, kAlignment);
  const std::lock_guard lock(mutex_);
  memory_[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, Kind::kPinned};
  return memory;
}

void Simulated::host_free(void* memory) noexcept {
  host_unregister(memory);
  ::operator delete(memory, kAlignment);
}

void* Simulated::allocate(std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (memory_bytes_ != 0 && used_ + bytes > memory_bytes_) return nullptr;
    used_ += bytes;
  }
  void* memory = ::operator new(bytes, kAlignment);
  const std::lock_guard lock(mutex_);
  memory_[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, Kind::kDevice};
  return memory;
}

void Simulated::free(void* memory) noexcept {
  {
    const std::lock_guard lock(mutex_);
    const auto found = memory_.find(reinterpret_cast<std::uintptr_t>(memory));
    used_ -= found->second.bytes;
    memory_.erase(found);
  }
  ::operator delete(memory, kAlignment);
}

void Simulated::lend(void* memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  memory_[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, Kind::kLent};
}

void Simulated::take_back(void* memory) {
  const std::lock_guard lock(mutex_);
  memory_.erase(reinterpret_cast<std::uintptr_t>(memory));
}

std::size_t Simulated::allocated() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

std::size_t Simulated::registered() const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::count_if(memory_.begin(), memory_.end(), [](const auto& entry) {
    return entry.second.kind == Kind::kRegistered;
  }));
}

bool Simulated::reachable(const void* memory, std::size_t bytes) const {
  const auto begin = reinterpret_cast<std::uintptr_t>(memory);
  const auto after = memory_.upper_bound(begin);
  return after != memory_.begin() &&
         begin + bytes <= std::prev(after)->first + std::prev(after)->second.bytes;
}

void Simulated::check(bool fine, const char* what) {
  if (fine || !faults_.fail.empty()) return;
  faults_.fail = std::string("an illegal memory access: ") + what;
}

// -- streams

Stream Simulated::make_stream() {
  const std::lock_guard lock(mutex_);
  return reinterpret_cast<Stream>(next_handle_++);  // NOLINT(performance-no-int-to-ptr): a handle
}

void Simulated::destroy(Stream stream) noexcept {
  std::unique_lock lock(mutex_);
  while (!streams_[stream].empty() || busy_[stream])
    if (mode_ == Mode::kThread)
      changed_.wait(lock);
    else
      do_one(lock, stream);
  streams_.erase(stream);
  busy_.erase(stream);
}

void Simulated::enqueue(Stream stream, Work work) {
  std::unique_lock lock(mutex_);
  raise_fault();
  streams_[stream].push_back(std::move(work));
  changed_.notify_all();
  if (mode_ == Mode::kEager)
    while (do_one(lock, stream)) {
    }
}

bool Simulated::do_one(std::unique_lock<std::mutex>& lock, Stream stream) {
  std::deque<Work>& queue = streams_[stream];
  if (queue.empty() || busy_[stream]) return false;
  const Work work = std::move(queue.front());
  queue.pop_front();
  busy_[stream] = true;
  lock.unlock();
  work();
  lock.lock();
  busy_[stream] = false;
  changed_.notify_all();
  return true;
}

bool Simulated::do_any(std::unique_lock<std::mutex>& lock) {
  std::vector<Stream> ready;
  for (const auto& [stream, queue] : streams_)
    if (!queue.empty() && !busy_[stream]) ready.push_back(stream);
  return !ready.empty() && do_one(lock, ready[random_() % ready.size()]);
}

void Simulated::drive() {
  std::unique_lock lock(mutex_);
  while (!stop_)
    if (!do_any(lock)) changed_.wait(lock);
}

bool Simulated::step() {
  std::unique_lock lock(mutex_);
  return do_any(lock);
}

bool Simulated::step(Stream stream) {
  std::unique_lock lock(mutex_);
  return do_one(lock, stream);
}

void Simulated::run() {
  while (step()) {
  }
}

void Simulated::copy(void* to, const void* from, std::size_t bytes, Stream stream) {
  {
    const std::lock_guard lock(mutex_);
    raise_refusal("copy");
  }
  enqueue(stream, [this, to, from, bytes] {
    {
      const std::lock_guard lock(mutex_);
      check(reachable(to, bytes) && reachable(from, bytes), "a copy");
      if (!faults_.fail.empty()) return;
    }
    std::memcpy(to, from, bytes);
  });
}

void Simulated::check_rows(const RowCopies& job) {
  const bool narrow = job.from == From::kInt32 || job.from == From::kSlots;
  const std::size_t list = job.rows * (narrow ? sizeof(std::int32_t) : sizeof(std::int64_t));
  check(reachable(job.index, list) && (job.to == nullptr || reachable(job.to, list)), "the list of rows");
  for (std::size_t row = 0; row < job.rows && faults_.fail.empty(); ++row) {
    if (job.from == From::kSlots) {
      const auto window = [&](const void* slots) {
        return static_cast<const std::uint32_t*>(slots)[row] >> kRowBits;
      };
      check(reachable(static_cast<const void*>(job.windows + window(job.index)), sizeof(std::byte*)) &&
                (job.to == nullptr ||
                 reachable(static_cast<const void*>(job.windows + window(job.to)), sizeof(std::byte*))),
            "the windows of slots");
      if (!faults_.fail.empty()) return;
    }
    dispatch(job, [&]<typename Vector, From kFrom>() {
      check(reachable(source_of<kFrom>(job, row), job.row_bytes), "a row's source");
      check(reachable(target_of<kFrom>(job, row), job.row_bytes), "a row's destination");
    });
  }
}

void Simulated::copy_rows(const RowCopies& job, Stream stream) {
  {
    const std::lock_guard lock(mutex_);
    raise_refusal("copy_rows");
  }
  ++launches_;
  if (job.from == From::kSlots) ++slot_launches_;
  enqueue(stream, [this, job] {
    {
      const std::lock_guard lock(mutex_);
      if (faults_.fail.empty()) check_rows(job);
      if (!faults_.fail.empty()) return;
    }
    run_kernel(job);
  });
}

// -- events

Event Simulated::make_event() {
  const std::lock_guard lock(mutex_);
  const auto event = reinterpret_cast<Event>(next_handle_++);  // NOLINT(performance-no-int-to-ptr): a handle
  events_[event];
  return event;
}

void Simulated::destroy_event(Event event) noexcept {
  const std::lock_guard lock(mutex_);
  events_.erase(event);
}

void Simulated::record(Event event, Stream stream) {
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    raise_refusal("record");
    number = ++events_[event].last;
  }
  enqueue(stream, [this, event, number] {
    const std::lock_guard lock(mutex_);
    if (const auto found = events_.find(event); found != events_.end()) found->second.finished = number;
  });
}

bool Simulated::done(Event event) {
  const std::lock_guard lock(mutex_);
  raise_fault();
  if (!faults_.mute.empty())
    throw Error(ErrorCode::kDevice, "the simulated GPU does not tell: " + faults_.mute);
  return events_[event].finished == events_[event].last;
}

void Simulated::wait(Event event) {
  ++waits_;
  std::unique_lock lock(mutex_);
  while (events_[event].finished != events_[event].last) {
    raise_fault();
    if (mode_ == Mode::kThread || !do_any(lock)) changed_.wait(lock);
  }
}

}  // namespace rudder::cuda
