// The calls of the CUDA runtime, as a GPU gets them, over the stand-in of the runtime. Only the kernel is
// another: its body, run by the CPU in the order of the stream.
#include "cuda/cudart.h"

#include <dlfcn.h>

#include <cstdlib>
#include <memory>

#include "common/error.h"
#include "cuda/runtime_contract.h"

namespace rudder::cuda {

namespace {

// Of the stand-in, with the kernel's body as its kernel.
Calls calls() {
  Calls all = load_calls({RUDDER_FAKE_CUDART});
  using Launch = int(void* stream, void (*function)(void*), void* argument);
  auto* launch = reinterpret_cast<Launch*>(dlsym(dlopen(all.file.c_str(), RTLD_NOW), "cudaLaunchHostFunc"));
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
  return ErrorCode::kState;
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
}

}  // namespace
}  // namespace rudder::cuda
