// The calls of the CUDA runtime, as a GPU gets them, over the stand-in of the runtime. Only the kernel is
// another: its body, run by the CPU in the order of the stream.
#include "cuda/cudart.h"

#include <dlfcn.h>

#include <cstdlib>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include "common/error.h"
#include "cuda/copy.h"
#include "cuda/runtime_contract.h"

namespace rudder::cuda {

namespace {

// Functions of the stand-in that Rudder does not call.
template <typename Function>
Function* of_the_stand_in(const char* name) {
  return reinterpret_cast<Function*>(dlsym(dlopen(RUDDER_FAKE_CUDART, RTLD_NOW), name));
}
using Launch = int(void* stream, void (*function)(void*), void* argument);

// Of the stand-in, with the kernel's body as its kernel.
Calls calls() {
  Calls all = load_calls({RUDDER_FAKE_CUDART});
  auto* launch = of_the_stand_in<Launch>("cudaLaunchHostFunc");
  all.copy_rows = [launch](const RowCopies& job, int multiprocessors, void* stream) {
    EXPECT_EQ(multiprocessors, 4);  // the stand-in's
    const auto run = [](void* argument) {
      const std::unique_ptr<RowCopies> once(static_cast<RowCopies*>(argument));
      const unsigned lanes = lanes_of(once->row_bytes, once->vector);
      dispatch(*once, [&]<typename Vector, From kFrom>() {
        for (unsigned lane = 0; lane < lanes; ++lane) copy_rows<Vector, kFrom>(*once, 0, 1, lane, lanes);
      });
    };
    return launch(stream, run, std::make_unique<RowCopies>(job).release());
  };
  return all;
}
std::shared_ptr<Runtime> open_gpu(int number) { return rudder::cuda::open_gpu(calls(), number); }

INSTANTIATE_TEST_SUITE_P(Cudart, RuntimeContract,
                         testing::Values(Maker{"cudart", [] { return open_gpu(0); }}),
                         [](const auto& info) { return std::string(info.param.name); });

class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Setting() { unsetenv(name_); }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
};

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::kFormat;  // nothing was thrown: no runtime has formats
}

TEST(Cudart, AGpuThatIsNotThereIsNamed) {
  EXPECT_EQ(gpu_count(calls()), 8);
  EXPECT_EQ(why_no_gpu(calls()), "");
  EXPECT_EQ(open_gpu(7)->name(), "fake GPU");
  for (const int number : {-1, 8}) EXPECT_EQ(code_of([&] { open_gpu(number); }), ErrorCode::kConfig);
  const Setting none("FAKE_CUDA_DEVICES", "0");
  EXPECT_EQ(gpu_count(calls()), 0);
  EXPECT_EQ(why_no_gpu(calls()), "no CUDA-capable device is detected (cudaErrorNoDevice)");
  EXPECT_EQ(code_of([] { open_gpu(0); }), ErrorCode::kConfig);
}

TEST(Cudart, TheCallersGpuStaysItsOwn) {
  const Calls cuda = calls();
  cuda.set_device(2);
  const auto gpu = open_gpu(5);
  void* memory = gpu->allocate(64);
  const Stream stream = gpu->make_stream();
  gpu->copy(memory, memory, 0, stream);
  gpu->destroy(stream);
  gpu->free(memory);
  int now = -1;
  cuda.get_device(&now);
  EXPECT_EQ(now, 2);
  cuda.set_device(0);
}

// Every rank of a host has threads that never named a GPU.
TEST(Cudart, AThreadThatNeverNamedAGpuOpensNoContextOnTheFirst) {
  const Calls cuda = calls();
  cuda.set_device(5);
  const auto gpu = open_gpu(5);
  const auto in_a_thread = [&] {
    int now = -1;
    std::thread([&] {
      gpu->free(gpu->allocate(64));
      cuda.get_device(&now);
    }).join();
    return now;
  };
  cuda.set_device(0);
  of_the_stand_in<int()>("cudaDeviceReset")();
  unsigned flags = 0;
  int active = -1;
  EXPECT_EQ(in_a_thread(), 5);
  cuda.primary_context_state(0, &flags, &active);
  EXPECT_EQ(active, 0);
  cuda.set_device(0);  // now there is one, and to go back costs nothing
  EXPECT_EQ(in_a_thread(), 0);
}

TEST(Cudart, AGpuThatCannotBeTakenIsATypedError) {
  const Calls cuda = calls();
  const auto gpu = open_gpu(5);
  const Event event = gpu->make_event();
  cuda.set_device(0);
  {
    const Setting setting("FAKE_CUDA_FAULT", "cudaSetDevice");
    EXPECT_EQ(code_of([&] { gpu->allocate(64); }), ErrorCode::kDevice);  // not on GPU 0 instead
    EXPECT_EQ(code_of([&] { gpu->record(event, nullptr); }), ErrorCode::kDevice);
    gpu->destroy_event(event);
  }
  EXPECT_EQ(cuda.get_last_error(), 0);
}

TEST(Cudart, AGpuOlderThanTheKernelsIsNotUsed) {
  const Setting some("FAKE_CUDA_OLD", "2");
  EXPECT_EQ(why_no_gpu(calls()), "");
  EXPECT_EQ(why_not_gpu(calls(), 2), "");
  EXPECT_EQ(why_not_gpu(calls(), 1),
            "GPU 1 is of compute capability 7.0, and rudder's kernels need 8.0 (Ampere) or later");
  EXPECT_EQ(code_of([] { open_gpu(1); }), ErrorCode::kConfig);
  EXPECT_EQ(open_gpu(2)->name(), "fake GPU");
  const Setting all("FAKE_CUDA_OLD", "8");
  EXPECT_EQ(why_no_gpu(calls()), why_not_gpu(calls(), 0));
}

TEST(Cudart, MemoryThatCannotBePinnedIsACapability) {
  std::vector<std::byte> memory(64);
  const auto refusal = [&](const char* fault, bool read_only) {
    const Setting setting("FAKE_CUDA_FAULT", fault);
    std::string why;
    EXPECT_FALSE(open_gpu(0)->host_register(memory.data(), memory.size(), read_only, why));
    return why;
  };
  EXPECT_NE(refusal("addresses", false).find("at other addresses"), std::string::npos);
  EXPECT_NE(refusal("read-only", true).find("mapped read-only"), std::string::npos);
  EXPECT_NE(refusal("cudaHostRegister", false).find("ulimit -l"), std::string::npos);
}

TEST(Cudart, MemoryThatIsPinnedAlreadyIsReadAsItIs) {
  const auto gpu = open_gpu(0);
  auto* memory = static_cast<std::byte*>(gpu->host_allocate(8 << 20));
  std::string why;
  EXPECT_TRUE(gpu->host_register(memory + 100, (8 << 20) - 100, false, why)) << why;
  gpu->host_unregister(memory + 100);
  EXPECT_TRUE(gpu->host_register(memory, 8 << 20, false, why)) << why;
  gpu->host_unregister(memory);
  PointerAttributes attributes;
  calls().pointer_get_attributes(&attributes, memory);
  EXPECT_EQ(attributes.type, kHost);  // it stays whose it was
  gpu->host_free(memory);
  // A part of it is not enough, wherever it lies.
  std::vector<std::byte> table(16 << 20);
  for (const std::size_t at : {0, 4 << 20, 12 << 20}) {
    ASSERT_TRUE(gpu->host_register(table.data() + at, 4 << 20, false, why)) << why;
    EXPECT_FALSE(gpu->host_register(table.data(), table.size(), false, why));
    EXPECT_NE(why.find("pinned by somebody else"), std::string::npos) << why;
    EXPECT_EQ(why.find("ulimit"), std::string::npos) << why;
    gpu->host_unregister(table.data() + at);
  }
  // Nor are its two ends.
  for (const std::size_t at : {0, 12 << 20})
    ASSERT_TRUE(gpu->host_register(table.data() + at, 4 << 20, false, why)) << why;
  EXPECT_FALSE(gpu->host_register(table.data(), table.size(), false, why));
  for (const std::size_t at : {0, 12 << 20}) gpu->host_unregister(table.data() + at);
  EXPECT_EQ(calls().get_last_error(), 0);
}

// A CUDA graph that the trainer captures, in the mode that is usual, while Rudder is at work.
class Capture {
 public:
  explicit Capture(Stream stream) : stream_(stream) {
    of_the_stand_in<int(void*, int)>("cudaStreamBeginCapture")(stream_, 0);
  }
  // Was it disturbed by nothing?
  bool end() const {
    void* graph = nullptr;
    return of_the_stand_in<int(void*, void**)>("cudaStreamEndCapture")(stream_, &graph) == 0;
  }

 private:
  const Stream stream_;
};

TEST(Cudart, ACaptureIsNotDisturbedAndNothingTakenForDone) {
  const auto gpu = open_gpu(0);
  const Stream captured = gpu->make_stream(), stream = gpu->make_stream();
  std::latch gate(1);
  of_the_stand_in<Launch>("cudaLaunchHostFunc")(
      stream, [](void* latch) { static_cast<std::latch*>(latch)->wait(); }, &gate);
  Copy copy(gpu, gpu->make_event());
  gpu->record(copy.event(), stream);
  const Capture capture(captured);
  EXPECT_FALSE(gpu->done(copy.event()));
  EXPECT_FALSE(copy.done());
  gate.count_down();
  EXPECT_TRUE(copy.wait());
  EXPECT_TRUE(copy.done());
  gpu->host_free(gpu->host_allocate(64));
  gpu->free(gpu->allocate(64));
  std::byte one{}, other{};
  EXPECT_EQ(code_of([&] { gpu->copy(&one, &other, 1, captured); }), ErrorCode::kState);
  EXPECT_EQ(code_of([&] { gpu->copy_rows({}, captured); }), ErrorCode::kState);
  EXPECT_TRUE(capture.end());
  gpu->destroy(captured);
  gpu->destroy(stream);
}

// What CUDA refuses to tell is not taken for the end, but for a GPU that was lost.
TEST(Cudart, OnlyALostGpuEndsWhatItDid) {
  const Calls cuda = calls();
  const auto gpu = open_gpu(0);
  const Stream stream = gpu->make_stream();
  Copy copy(gpu, gpu->make_event());
  {
    const Capture capture(stream);
    gpu->record(copy.event(), stream);  // by the caller's own mistake: what a graph records is never done
    EXPECT_EQ(code_of([&] { gpu->done(copy.event()); }), ErrorCode::kDevice);
    EXPECT_FALSE(copy.done());
    EXPECT_FALSE(copy.wait());
    capture.end();
    cuda.get_last_error();
  }
  const Setting setting("FAKE_CUDA_FAULT", "lost");
  EXPECT_THROW(gpu->done(copy.event()), DeviceLost);
  EXPECT_TRUE(copy.done());
  EXPECT_TRUE(copy.wait());
  gpu->destroy(stream);
}

TEST(Cudart, AFailureIsATypedError) {
  const auto gpu = open_gpu(0);
  EXPECT_EQ(code_of([&] { gpu->host_allocate(std::size_t{1} << 50); }), ErrorCode::kOutOfMemory);
  const Event event = gpu->make_event();
  {
    const Setting setting("FAKE_CUDA_FAULT", "cudaEventQuery");
    EXPECT_EQ(code_of([&] { gpu->done(event); }), ErrorCode::kDevice);
  }
  gpu->destroy_event(event);
  const Setting setting("FAKE_CUDA_FAULT", "cudaMemcpyAsync");
  std::byte one{};
  EXPECT_EQ(code_of([&] { gpu->copy(&one, &one, 1, nullptr); }), ErrorCode::kDevice);
  EXPECT_EQ(calls().get_last_error(), 0) << "the caller's framework would find it";
}

}  // namespace
}  // namespace rudder::cuda
