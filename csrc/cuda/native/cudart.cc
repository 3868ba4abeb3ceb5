#include "cuda/native/cudart.h"

#include <cuda_runtime_api.h>

#include <source_location>
#include <string>

#include "common/error.h"
#include "cuda/native/gather.h"

namespace rudder::cuda {
namespace {

std::string describe(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

// Every call of the runtime whose failure is an error goes through here.
void check(cudaError_t error, const char* what,
           std::source_location where = std::source_location::current()) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // where it is not a broken context, the next call starts clean
  const ErrorCode code = error == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kDevice;
  throw Error(code, std::string(what) + " failed: " + describe(error), where);
}

cudaStream_t as_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t as_event(Event event) { return static_cast<cudaEvent_t>(event); }

class Cudart final : public Runtime {
 public:
  explicit Cudart(int number) : number_(number) {
    const Here here(number_);
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, number_), "cudaGetDeviceProperties");
    name_ = properties.name;
    check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, number_),
          "cudaDeviceGetAttribute");
    int value = 0;
    check(cudaDeviceGetAttribute(&value, cudaDevAttrCanUseHostPointerForRegisteredMem, number_),
          "cudaDeviceGetAttribute");
    same_addresses_ = value != 0;
    check(cudaDeviceGetAttribute(&value, cudaDevAttrHostRegisterReadOnlySupported, number_),
          "cudaDeviceGetAttribute");
    reads_only_ = value != 0;
    check(cudaFree(nullptr), "making the GPU's context");
  }

  std::string name() const override { return name_; }

  bool host_register(void* memory, std::size_t bytes, bool read_only, std::string& refusal) override {
    const Here here(number_);
    if (!same_addresses_) {
      refusal = "this GPU sees pinned memory at other addresses than the CPU";
      return false;
    }
    if (read_only && !reads_only_) {
      refusal = "this GPU's driver pins no memory that is mapped read-only";
      return false;
    }
    const unsigned flags =
        cudaHostRegisterPortable | cudaHostRegisterMapped | (read_only ? cudaHostRegisterReadOnly : 0U);
    const cudaError_t error = cudaHostRegister(memory, bytes, flags);
    if (error == cudaSuccess) return true;
    cudaGetLastError();
    refusal = "cudaHostRegister refused: " + describe(error) + "; see ulimit -l";
    return false;
  }
  void host_unregister(void* memory) noexcept override {
    const Here here(number_);
    cudaHostUnregister(memory);
  }
  void* host_allocate(std::size_t bytes) override {
    const Here here(number_);
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
    return memory;
  }
  void host_free(void* memory) noexcept override {
    const Here here(number_);
    cudaFreeHost(memory);
  }

  void* allocate(std::size_t bytes) override {
    const Here here(number_);
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check(error, "cudaMalloc");
    return memory;
  }
  void free(void* memory) noexcept override {
    const Here here(number_);
    cudaFree(memory);
  }

  void copy(void* to, const void* from, std::size_t bytes, Stream stream) override {
    const Here here(number_);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, as_stream(stream)), "cudaMemcpyAsync");
  }
  void copy_rows(const RowCopies& job, Stream stream) override {
    const Here here(number_);
    check(launch_copy_rows(job, multiprocessors_, as_stream(stream)), "launching the gather");
  }

  Stream make_stream() override {
    const Here here(number_);
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    return stream;
  }
  void destroy(Stream stream) noexcept override {
    const Here here(number_);
    cudaStreamDestroy(as_stream(stream));
  }

  Event make_event() override {
    const Here here(number_);
    cudaEvent_t event = nullptr;
    // Without times: those would cost each launch a timestamp. Blocking: wait() sleeps instead of spinning.
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync),
          "cudaEventCreate");
    return event;
  }
  void destroy_event(Event event) noexcept override {
    const Here here(number_);
    cudaEventDestroy(as_event(event));
  }
  void record(Event event, Stream stream) override {
    const Here here(number_);
    check(cudaEventRecord(as_event(event), as_stream(stream)), "cudaEventRecord");
  }
  bool done(Event event) override {
    const Here here(number_);
    const cudaError_t error = cudaEventQuery(as_event(event));
    if (error == cudaErrorNotReady) {
      cudaGetLastError();
      return false;
    }
    check(error, "work on the GPU");
    return true;
  }
  void wait(Event event) override {
    const Here here(number_);
    check(cudaEventSynchronize(as_event(event)), "work on the GPU");
  }

 private:
  // Makes this GPU the calling thread's for the length of a call. It gives back what was there: the caller's
  // framework relies on it.
  class Here {
   public:
    explicit Here(int number) {
      if (cudaGetDevice(&before_) == cudaSuccess && before_ != number) {
        moved_ = cudaSetDevice(number) == cudaSuccess;
      }
    }
    ~Here() {
      if (moved_) cudaSetDevice(before_);
    }
    Here(const Here&) = delete;
    Here& operator=(const Here&) = delete;

   private:
    int before_ = 0;
    bool moved_ = false;
  };

  const int number_;
  int multiprocessors_ = 1;
  bool same_addresses_ = false;
  bool reads_only_ = false;
  std::string name_;
};

}  // namespace

int gpu_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::string why_no_gpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return count > 0 ? "" : "this process sees no GPU";
  cudaGetLastError();
  return describe(error);
}

std::shared_ptr<Runtime> open_gpu(int number) {
  if (const std::string reason = why_no_gpu(); !reason.empty()) throw Error(ErrorCode::kConfig, reason);
  const int count = gpu_count();
  if (number < 0 || number >= count)
    throw Error(ErrorCode::kConfig, "there is no GPU " + std::to_string(number) + "; this process sees " +
                                        std::to_string(count) + ", from 0");
  return std::make_shared<Cudart>(number);
}

}  // namespace rudder::cuda
