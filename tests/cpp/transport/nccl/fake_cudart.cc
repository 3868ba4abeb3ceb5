// A CUDA runtime for tests, as a library to be opened in place of the real one: device and pinned memory are
// host memory that it remembers, each stream is a thread that does its work in order, later than it was asked
// for. FAKE_CUDA_DEVICES says how many GPUs there are (8 where it is not set). FAKE_CUDA_FAULT names a call
// that fails, or "addresses" or "read-only", which the GPU cannot pin then. Nothing of CUDA is needed to
// build it.
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

namespace {

enum Error : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kNoMemory = 2,
  kNoDevice = 100,
  kNotReady = 600,
  kIllegalAddress = 700,
  kRegistered = 712,
  kNotRegistered = 713
};
// Of cudaDeviceAttr.
enum Attribute : int { kMultiprocessors = 16, kSameAddresses = 91, kReadOnly = 113 };
// More than any GPU has.
constexpr std::size_t kMemory = std::size_t{1} << 40;
enum Type : int { kUnregistered = 0, kPinned = 1, kDevice = 2 };

struct Stream {
  int device = 0;
  std::deque<std::function<void()>> work;
  bool busy = false;
  bool ended = false;
};

struct Event {
  std::uint64_t last = 0, finished = 0;
};

struct Runtime {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<const char*, std::pair<std::size_t, Type>> memory;
  std::map<void*, std::shared_ptr<Stream>> streams;
  std::map<void*, std::shared_ptr<Event>> events;
};

// Never destroyed: threads of streams may outlive main().
Runtime& runtime() {
  static auto* instance = new Runtime;
  return *instance;
}

thread_local int device = 0;

int devices() {
  const char* text = std::getenv("FAKE_CUDA_DEVICES");
  return text == nullptr ? 8 : std::atoi(text);
}

bool broken(const char* what) {
  const char* named = std::getenv("FAKE_CUDA_FAULT");
  return named != nullptr && std::string_view(named) == what;
}

void drive(const std::shared_ptr<Stream>& stream) {
  Runtime& cuda = runtime();
  std::unique_lock lock(cuda.mutex);
  for (;;) {
    cuda.changed.wait(lock, [&] { return !stream->work.empty() || stream->ended; });
    if (stream->work.empty()) return;
    const auto work = std::move(stream->work.front());
    stream->work.pop_front();
    stream->busy = true;
    lock.unlock();
    work();
    lock.lock();
    stream->busy = false;
    cuda.changed.notify_all();
  }
}

// REQUIRES the lock. The default stream is made when it is first used.
Stream& stream_of(void* handle) {
  Runtime& cuda = runtime();
  auto& stream = cuda.streams[handle];
  if (!stream) {
    stream = std::make_shared<Stream>();
    stream->device = device;
    std::thread(drive, stream).detach();
  }
  return *stream;
}

void enqueue(void* stream, std::function<void()> work) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  stream_of(stream).work.push_back(std::move(work));
  cuda.changed.notify_all();
}

int allocate(void** memory, std::size_t bytes, Type type) {
  if (bytes > kMemory) return kNoMemory;
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*memory == nullptr) return kNoMemory;
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  cuda.memory[static_cast<const char*>(*memory)] = {bytes, type};
  return kSuccess;
}

// As the real ones do, it waits until the device is idle.
int release(void* memory) {
  if (memory == nullptr) return kSuccess;
  Runtime& cuda = runtime();
  {
    std::unique_lock lock(cuda.mutex);
    cuda.changed.wait(lock, [&] {
      for (const auto& [handle, stream] : cuda.streams)
        if (stream->device == device && (stream->busy || !stream->work.empty())) return false;
      return true;
    });
    if (cuda.memory.erase(static_cast<const char*>(memory)) == 0) return kInvalidValue;
  }
  std::free(memory);
  return kSuccess;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) int
struct cudaPointerAttributes {
  int type, device;
  void *device_pointer, *host_pointer;
  long reserved[8];
};

API cudaGetDeviceCount(int* count) {
  *count = devices();
  return *count > 0 ? kSuccess : kNoDevice;
}
API cudaSetDevice(int number) {
  device = number;
  return number < devices() ? kSuccess : kInvalidValue;
}
API cudaGetDevice(int* number) {
  *number = device;
  return kSuccess;
}
// The name stands first in cudaDeviceProp, whatever CUDA's version; so far only its callers know the rest.
API cudaGetDeviceProperties(char* properties, int) {
  std::strcpy(properties, "fake GPU");
  return kSuccess;
}
API cudaGetDeviceProperties_v2(char* properties, int number) {
  return cudaGetDeviceProperties(properties, number);
}
API cudaDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == kMultiprocessors ? 4 : 1;
  if (attribute == kSameAddresses && broken("addresses")) *value = 0;
  if (attribute == kReadOnly && broken("read-only")) *value = 0;
  return kSuccess;
}
API cudaGetLastError() { return kSuccess; }
extern "C" __attribute__((visibility("default"))) const char* cudaGetErrorString(int error) {
  return error == kNoDevice ? "no CUDA-capable device is detected" : "the fake runtime refused";
}
extern "C" __attribute__((visibility("default"))) const char* cudaGetErrorName(int error) {
  return error == kNoDevice ? "cudaErrorNoDevice" : "cudaErrorFake";
}

API cudaMalloc(void** memory, std::size_t bytes) { return allocate(memory, bytes, kDevice); }
API cudaFree(void* memory) { return release(memory); }
API cudaHostAlloc(void** memory, std::size_t bytes, unsigned) { return allocate(memory, bytes, kPinned); }
API cudaFreeHost(void* memory) { return release(memory); }
API cudaHostRegister(void* memory, std::size_t bytes, unsigned) {
  if (broken("cudaHostRegister")) return kNoMemory;
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  const bool added = cuda.memory.try_emplace(static_cast<const char*>(memory), bytes, kPinned).second;
  return added ? kSuccess : kRegistered;
}
API cudaHostUnregister(void* memory) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  return cuda.memory.erase(static_cast<const char*>(memory)) == 1 ? kSuccess : kNotRegistered;
}

API cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  *attributes = {};
  const auto* at = static_cast<const char*>(memory);
  const auto after = cuda.memory.upper_bound(at);
  if (after == cuda.memory.begin()) return kSuccess;
  const auto& [begin, known] = *std::prev(after);
  if (at < begin + known.first) attributes->type = known.second;
  return kSuccess;
}

API cudaStreamCreateWithFlags(void** stream, unsigned) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  *stream = std::malloc(1);  // a handle
  stream_of(*stream);
  return kSuccess;
}
API cudaStreamDestroy(void* stream) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  const auto found = cuda.streams.find(stream);
  if (found == cuda.streams.end()) return kInvalidValue;
  found->second->ended = true;  // what is queued is still done
  cuda.streams.erase(found);
  cuda.changed.notify_all();
  std::free(stream);
  return kSuccess;
}

API cudaEventCreateWithFlags(void** event, unsigned) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  *event = std::malloc(1);
  cuda.events[*event] = std::make_shared<Event>();
  return kSuccess;
}
API cudaEventDestroy(void* event) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  if (cuda.events.erase(event) == 0) return kInvalidValue;
  std::free(event);
  return kSuccess;
}
API cudaEventRecord(void* event, void* stream) {
  Runtime& cuda = runtime();
  std::shared_ptr<Event> recorded;
  {
    const std::lock_guard lock(cuda.mutex);
    recorded = cuda.events.at(event);
    ++recorded->last;
  }
  enqueue(stream, [recorded, number = recorded->last] {
    const std::lock_guard lock(runtime().mutex);
    recorded->finished = number;
    runtime().changed.notify_all();
  });
  return kSuccess;
}
API cudaEventSynchronize(void* event) {
  Runtime& cuda = runtime();
  std::unique_lock lock(cuda.mutex);
  const std::shared_ptr<Event> asked = cuda.events.at(event);
  cuda.changed.wait(lock, [&] { return asked->finished == asked->last; });
  return kSuccess;
}
API cudaEventQuery(void* event) {
  if (broken("cudaEventQuery")) return kIllegalAddress;
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  const Event& asked = *cuda.events.at(event);
  return asked.finished == asked.last ? kSuccess : kNotReady;
}
API cudaStreamWaitEvent(void* stream, void* event, unsigned) {
  Runtime& cuda = runtime();
  std::shared_ptr<Event> awaited;
  {
    const std::lock_guard lock(cuda.mutex);
    awaited = cuda.events.at(event);
  }
  enqueue(stream, [awaited, number = awaited->last] {
    std::unique_lock lock(runtime().mutex);
    runtime().changed.wait(lock, [&] { return awaited->finished >= number; });
  });
  return kSuccess;
}

API cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, int, void* stream) {
  if (broken("cudaMemcpyAsync")) return kIllegalAddress;
  enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return kSuccess;
}
API cudaLaunchHostFunc(void* stream, void (*function)(void*), void* argument) {
  enqueue(stream, [=] { function(argument); });
  return kSuccess;
}
