#include "cuda/cudart.h"

#include <cstddef>
#include <cstring>
#include <source_location>
#include <string>
#include <utility>

#include "common/error.h"

namespace rudder::cuda {
namespace {

std::string describe(const Calls& calls, int error) {
  return std::string(calls.get_error_string(error)) + " (" + calls.get_error_name(error) + ")";
}

class Cudart final : public Runtime {
 public:
  Cudart(Calls calls, int number) : calls_(std::move(calls)), number_(number) {
    const Here here(*this);
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
    const Here here(*this);
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
    refusal = "cudaHostRegister refused: " + describe(calls_, error) + "; see ulimit -l";
    return false;
  }
  void host_unregister(void* memory) noexcept override {
    const Here here(*this);
    calls_.host_unregister(memory);
  }
  void* host_allocate(std::size_t bytes) override {
    const Here here(*this);
    void* memory = nullptr;
    check(calls_.host_alloc(&memory, bytes, kHostPortable | kHostMapped), "cudaHostAlloc");
    return memory;
  }
  void host_free(void* memory) noexcept override {
    const Here here(*this);
    calls_.free_host(memory);
  }

  void* allocate(std::size_t bytes) override {
    const Here here(*this);
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
    const Here here(*this);
    calls_.free(memory);
  }

  void copy(void* to, const void* from, std::size_t bytes, Stream stream) override {
    const Here here(*this);
    check(calls_.memcpy_async(to, from, bytes, kMemcpyDefault, stream), "cudaMemcpyAsync");
  }
  void copy_rows(const RowCopies& job, Stream stream) override {
    const Here here(*this);
    check(calls_.copy_rows(job, multiprocessors_, stream), "launching the gather");
  }

  Stream make_stream() override {
    const Here here(*this);
    Stream stream = nullptr;
    check(calls_.stream_create(&stream, kStreamNonBlocking), "cudaStreamCreate");
    return stream;
  }
  void destroy(Stream stream) noexcept override {
    const Here here(*this);
    calls_.stream_destroy(stream);
  }

  Event make_event() override {
    const Here here(*this);
    Event event = nullptr;
    // Without times: those would cost each launch a timestamp. Blocking: wait() sleeps instead of spinning.
    check(calls_.event_create(&event, kEventDisableTiming | kEventBlockingSync), "cudaEventCreate");
    return event;
  }
  void destroy_event(Event event) noexcept override {
    const Here here(*this);
    calls_.event_destroy(event);
  }
  void record(Event event, Stream stream) override {
    const Here here(*this);
    check(calls_.event_record(event, stream), "cudaEventRecord");
  }
  bool done(Event event) override {
    const Here here(*this);
    const int error = calls_.event_query(event);
    if (error == kNotReady) {
      calls_.get_last_error();
      return false;
    }
    check(error, "work on the GPU");
    return true;
  }
  void wait(Event event) override {
    const Here here(*this);
    check(calls_.event_synchronize(event), "work on the GPU");
  }

 private:
  // Makes this GPU the calling thread's for the length of a call. It gives back what was there: the caller's
  // framework relies on it.
  class Here {
   public:
    explicit Here(const Cudart& gpu) : calls_(gpu.calls_) {
      if (calls_.get_device(&before_) == 0 && before_ != gpu.number_) {
        moved_ = calls_.set_device(gpu.number_) == 0;
      }
    }
    ~Here() {
      if (moved_) calls_.set_device(before_);
    }
    Here(const Here&) = delete;
    Here& operator=(const Here&) = delete;

   private:
    const Calls& calls_;
    int before_ = 0;
    bool moved_ = false;
  };

  // Every call whose failure is an error goes through here.
  void check(int error, const char* what,
             std::source_location where = std::source_location::current()) const {
    if (error == 0) return;
    calls_.get_last_error();  // where it is not a broken context, the next call starts clean
    const ErrorCode code = error == kNoMemory ? ErrorCode::kOutOfMemory : ErrorCode::kDevice;
    throw Error(code, std::string(what) + " failed: " + describe(calls_, error), where);
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
};

}  // namespace

int gpu_count(const Calls& calls) {
  int count = 0;
  if (calls.get_device_count(&count) == 0) return count;
  calls.get_last_error();
  return 0;
}

std::string why_no_gpu(const Calls& calls) {
  int count = 0;
  const int error = calls.get_device_count(&count);
  if (error == 0) return count > 0 ? "" : "this process sees no GPU";
  calls.get_last_error();
  return describe(calls, error);
}

std::shared_ptr<Runtime> open_gpu(Calls calls, int number) {
  if (const std::string reason = why_no_gpu(calls); !reason.empty()) throw Error(ErrorCode::kConfig, reason);
  const int count = gpu_count(calls);
  if (number < 0 || number >= count)
    throw Error(ErrorCode::kConfig, "there is no GPU " + std::to_string(number) + "; this process sees " +
                                        std::to_string(count) + ", from 0");
  return std::make_shared<Cudart>(std::move(calls), number);
}

}  // namespace rudder::cuda
