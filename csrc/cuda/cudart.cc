#include "cuda/cudart.h"

#include <cstddef>
#include <cstring>
#include <mutex>
#include <set>
#include <source_location>
#include <string>
#include <utility>

#include "common/error.h"
#include "cuda/here.h"

namespace rudder::cuda {
namespace {

// Bytes between two looks at memory that others have pinned: a huge page, and microseconds per gigabyte.
constexpr std::size_t kLookEvery = std::size_t{2} << 20;
// Compute capability that the kernels are built for, and later ones (cmake/cuda.cmake).
constexpr int kOldestMajor = 8;

std::string describe(const Calls& calls, int error) {
  return std::string(calls.get_error_string(error)) + " (" + calls.get_error_name(error) + ")";
}

class Cudart final : public Runtime {
 public:
  Cudart(Calls calls, int number) : calls_(std::move(calls)), number_(number) {
    const OnGpu here(*this);
    alignas(std::max_align_t) char properties[kPropertiesBytes] = {};
    check(calls_.get_device_properties(properties, number_), "cudaGetDeviceProperties");
    name_.assign(properties, strnlen(properties, kNameBytes));
    multiprocessors_ = attribute(kMultiprocessors);
    same_addresses_ = attribute(kUsesHostAddresses) != 0;
    reads_only_ = attribute(kRegistersReadOnly) != 0;
    check(calls_.free(nullptr), "making the GPU's context");
  }

  std::string name() const override { return name_; }

  bool host_register(void* memory, std::size_t bytes, bool read_only, std::string& refusal) override {
    const OnGpu here(*this);
    if (!same_addresses_) {
      refusal = "this GPU sees pinned memory at other addresses than the CPU";
      return false;
    }
    if (read_only && !reads_only_) {
      refusal = "this GPU's driver pins no memory that is mapped read-only";
      return false;
    }
    const unsigned flags = kHostPortable | kHostMapped | (read_only ? kHostReadOnly : 0U);
    const int error = calls_.host_register(memory, bytes, flags);
    if (error == 0) return true;
    calls_.get_last_error();
    if (error == kAlreadyRegistered && reads_all(memory, bytes)) {
      const std::lock_guard lock(mutex_);
      pinned_by_others_.insert(memory);
      return true;
    }
    refusal =
        "cudaHostRegister refused: " + describe(calls_, error) +
        (error == kAlreadyRegistered ? "; a part of this memory is pinned by somebody else, who would have "
                                       "to pin all of it or none"
                                     : "; see ulimit -l");
    return false;
  }
  void host_unregister(void* memory) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      if (pinned_by_others_.erase(memory) != 0) return;
    }
    const Here here(calls_, number_);
    forget(calls_.host_unregister(memory));
  }
  void* host_allocate(std::size_t bytes) override {
    const OnGpu here(*this);
    void* memory = nullptr;
    check(calls_.host_alloc(&memory, bytes, kHostPortable | kHostMapped), "cudaHostAlloc");
    return memory;
  }
  void host_free(void* memory) noexcept override {
    const Here here(calls_, number_);
    forget(calls_.free_host(memory));
  }

  void* allocate(std::size_t bytes) override {
    const OnGpu here(*this);
    void* memory = nullptr;
    const int error = calls_.malloc(&memory, bytes);
    if (error == kNoMemory) {
      calls_.get_last_error();
      return nullptr;
    }
    check(error, "cudaMalloc");
    return memory;
  }
  void free(void* memory) noexcept override {
    const Here here(calls_, number_);
    forget(calls_.free(memory));
  }

  void copy(void* to, const void* from, std::size_t bytes, Stream stream) override {
    const OnGpu here(*this);
    check_not_captured(stream);
    check(calls_.memcpy_async(to, from, bytes, kMemcpyDefault, stream), "cudaMemcpyAsync");
  }
  void copy_rows(const RowCopies& job, Stream stream) override {
    const OnGpu here(*this);
    check_not_captured(stream);
    check(calls_.copy_rows(job, multiprocessors_, stream), "launching the gather");
  }

  Stream make_stream() override {
    const OnGpu here(*this);
    Stream stream = nullptr;
    check(calls_.stream_create(&stream, kStreamNonBlocking), "cudaStreamCreate");
    return stream;
  }
  void destroy(Stream stream) noexcept override {
    const Here here(calls_, number_);
    forget(calls_.stream_destroy(stream));
  }

  Event make_event() override {
    const OnGpu here(*this);
    Event event = nullptr;
    // Without times: those would cost each launch a timestamp. Blocking: wait() sleeps instead of spinning.
    check(calls_.event_create(&event, kEventDisableTiming | kEventBlockingSync), "cudaEventCreate");
    return event;
  }
  void destroy_event(Event event) noexcept override {
    const Here here(calls_, number_);
    forget(calls_.event_destroy(event));
  }
  void record(Event event, Stream stream) override {
    const OnGpu here(*this);
    check(calls_.event_record(event, stream), "cudaEventRecord");
  }
  bool done(Event event) override {
    const OnGpu here(*this);
    const int error = calls_.event_query(event);
    if (error == kNotReady) {
      calls_.get_last_error();
      return false;
    }
    check(error, "work on the GPU");
    return true;
  }
  void wait(Event event) override {
    const OnGpu here(*this);
    check(calls_.event_synchronize(event), "work on the GPU");
  }

 private:
  // For calls that need this GPU. Those that give something back are made wherever the thread stands: the
  // handle says what they are about.
  class OnGpu : public Here {
   public:
    explicit OnGpu(const Cudart& gpu) : Here(gpu.calls_, gpu.number_) { gpu.check(error(), "cudaSetDevice"); }
  };

  // Every call whose failure is an error goes through here.
  void check(int error, const char* what,
             std::source_location where = std::source_location::current()) const {
    if (error == 0) return;
    calls_.get_last_error();  // where the GPU is not lost, the next call starts clean
    const std::string text = std::string(what) + " failed: " + describe(calls_, error);
    if (is_loss(error)) throw DeviceLost(text, where);
    throw Error(error == kNoMemory ? ErrorCode::kOutOfMemory : ErrorCode::kDevice, text, where);
  }
  // Is this host memory, which somebody else has pinned, there for the GPU at the same addresses? Whoever
  // pins part of a table pins large parts of it: looking every so often finds the rest.
  bool reads_all(const void* memory, std::size_t bytes) const {
    const auto reads = [&](std::size_t at) {
      const void* byte = static_cast<const std::byte*>(memory) + at;
      PointerAttributes attributes;
      const bool known = calls_.pointer_get_attributes(&attributes, byte) == 0;
      if (!known) calls_.get_last_error();
      return known && attributes.type == kHost && attributes.device_pointer == byte;
    };
    for (std::size_t at = 0; at < bytes; at += kLookEvery)
      if (!reads(at)) return false;
    return reads(bytes - 1);
  }
  void check_not_captured(Stream stream) const {
    int status = kNotCapturing;
    check(calls_.stream_is_capturing(stream, &status), "cudaStreamIsCapturing");
    if (status != kNotCapturing)
      throw Error(ErrorCode::kState,
                  "rows cannot be gathered on a stream that is being captured into a CUDA graph, whose runs "
                  "would read them where they lay then: gather into a tensor before, and capture its use");
  }
  // Of a call that gives something back, nothing can be made; but the caller's framework must not find it.
  void forget(int error) const noexcept {
    if (error != 0) calls_.get_last_error();
  }
  int attribute(Attribute asked) const {
    int value = 0;
    check(calls_.device_get_attribute(&value, asked, number_), "cudaDeviceGetAttribute");
    return value;
  }

  const Calls calls_;
  const int number_;
  int multiprocessors_ = 1;
  bool same_addresses_ = false;
  bool reads_only_ = false;
  std::string name_;
  std::mutex mutex_;
  std::set<const void*> pinned_by_others_;  // that host_register accepted as it is
};

}  // namespace

int gpu_count(const Calls& calls) {
  int count = 0;
  if (calls.get_device_count(&count) == 0) return count;
  calls.get_last_error();
  return 0;
}

std::string why_not_gpu(const Calls& calls, int number) {
  const int count = gpu_count(calls);
  if (number < 0 || number >= count)
    return "there is no GPU " + std::to_string(number) + "; this process sees " + std::to_string(count) +
           ", from 0";
  int major = 0, minor = 0;
  for (const auto& [asked, value] : {std::pair(kComputeMajor, &major), std::pair(kComputeMinor, &minor)})
    if (const int error = calls.device_get_attribute(value, asked, number); error != 0) {
      calls.get_last_error();
      return describe(calls, error);
    }
  if (major >= kOldestMajor) return "";
  return "GPU " + std::to_string(number) + " is of compute capability " + std::to_string(major) + "." +
         std::to_string(minor) + ", and rudder's kernels need " + std::to_string(kOldestMajor) +
         ".0 (Ampere) or later";
}

std::string why_no_gpu(const Calls& calls) {
  int count = 0;
  if (const int error = calls.get_device_count(&count); error != 0) {
    calls.get_last_error();
    return describe(calls, error);
  }
  std::string reason = "this process sees no GPU";
  for (int number = 0; number < count; ++number) {
    const std::string why_not = why_not_gpu(calls, number);
    if (why_not.empty()) return "";
    if (number == 0) reason = why_not;
  }
  return reason;
}

std::shared_ptr<Runtime> open_gpu(Calls calls, int number) {
  if (const std::string reason = why_no_gpu(calls); !reason.empty()) throw Error(ErrorCode::kConfig, reason);
  if (const std::string reason = why_not_gpu(calls, number); !reason.empty())
    throw Error(ErrorCode::kConfig, reason);
  return std::make_shared<Cudart>(std::move(calls), number);
}

}  // namespace rudder::cuda
