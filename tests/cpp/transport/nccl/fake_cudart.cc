// A CUDA runtime for tests, as a library to be opened in place of the real one: device and pinned memory are
// host memory that it remembers, each stream is a thread that does its work in order, later than it was asked
// for. Nothing of CUDA is needed to build it. It is as strict as CUDA where Rudder could go wrong:
//
//   - a stream and an event belong to the GPU that was the thread's when they were made, and an event is
//     recorded on a stream of its own GPU alone; naming a GPU opens a context there, as CUDA 12 does
//     (cuDevicePrimaryCtxGetState tells);
//   - an error stays behind in its thread until cudaGetLastError takes it; that of a lost GPU always is;
//   - while a CUDA graph is captured, calls that ask or wait are refused, and spoil the capture, unless their
//     thread is in the relaxed mode. What a captured stream is given is not done.
//
// FAKE_CUDA_DEVICES says how many GPUs there are (8 where it is not set), FAKE_CUDA_OLD how many of them,
// from the first on, are older than Ampere. FAKE_CUDA_FAULT names a call that fails, or "addresses" or
// "read-only", which the GPU cannot pin then, or "lost": every call that reaches the GPU fails.
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>
#include <utility>

namespace {

enum Error : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kNoMemory = 2,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidHandle = 400,
  kNotReady = 600,
  kIllegalAddress = 700,
  kRegistered = 712,
  kNotRegistered = 713,
  kCaptureUnsupported = 900,
  kCapturedEvent = 907
};
// Of cudaDeviceAttr.
enum Attribute : int {
  kMultiprocessors = 16,
  kMajor = 75,
  kMinor = 76,
  kSameAddresses = 91,
  kReadOnly = 113
};
enum Capture : int { kGlobal = 0, kRelaxed = 2 };              // modes
enum Captured : int { kNone = 0, kActive = 1, kSpoiled = 2 };  // states
// More than any GPU has.
constexpr std::size_t kMemory = std::size_t{1} << 40;
enum Type : int { kUnregistered = 0, kPinned = 1, kDevice = 2 };

struct Stream {
  int device = 0;
  std::deque<std::function<void()>> work;
  bool busy = false;
  bool ended = false;
  int captured = kNone;
};

struct Event {
  int device = 0;
  bool captured = false;
  std::uint64_t last = 0, finished = 0;
};

struct Runtime {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<const char*, std::pair<std::size_t, Type>> memory;
  std::map<void*, std::shared_ptr<Stream>> streams;
  std::map<void*, std::shared_ptr<Event>> events;
  std::set<int> contexts;  // GPUs that have one
};

// Never destroyed: threads of streams may outlive main().
Runtime& runtime() {
  static auto* instance = new Runtime;
  return *instance;
}

thread_local int device = 0;
thread_local int capture_mode = kGlobal;
thread_local int last_error = kSuccess;

int devices() {
  const char* text = std::getenv("FAKE_CUDA_DEVICES");
  return text == nullptr ? 8 : std::atoi(text);
}

bool broken(const char* what) {
  const char* named = std::getenv("FAKE_CUDA_FAULT");
  return named != nullptr && std::string_view(named) == what;
}

// Every call ends here: what it returns stays behind, too.
int leave(int error) {
  if (error != kSuccess && error != kNotReady) last_error = error;
  return error;
}

// What keeps a call from reaching the GPU; `name`: by which it can be made to fail.
int barred(const char* name) {
  if (broken("lost") || broken(name)) return kIllegalAddress;
  const std::lock_guard lock(runtime().mutex);
  runtime().contexts.insert(device);
  return kSuccess;
}

// The same for calls that ask or wait, which a capture forbids.
int barred_in_capture(const char* name) {
  if (const int error = barred(name); error != kSuccess) return error;
  if (capture_mode == kRelaxed) return kSuccess;
  const std::lock_guard lock(runtime().mutex);
  bool any = false;
  for (const auto& [handle, stream] : runtime().streams)
    if (stream->captured != kNone) {
      stream->captured = kSpoiled;
      any = true;
    }
  return any ? kCaptureUnsupported : kSuccess;
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
  static char defaults[64];
  Runtime& cuda = runtime();
  auto& stream = cuda.streams[handle == nullptr ? &defaults[device] : handle];
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
  Stream& to = stream_of(stream);
  if (to.captured == kNone) to.work.push_back(std::move(work));
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
  return leave(*count > 0 ? kSuccess : kNoDevice);
}
API cudaSetDevice(int number) {
  if (number < 0 || number >= devices() || broken("cudaSetDevice")) return leave(kInvalidDevice);
  device = number;
  return leave(barred("cudaSetDevice"));
}
API cudaGetDevice(int* number) {
  *number = device;
  return kSuccess;
}
API cudaDeviceReset() {
  const std::lock_guard lock(runtime().mutex);
  runtime().contexts.erase(device);
  return kSuccess;
}
API cuDevicePrimaryCtxGetState(int number, unsigned* flags, int* active) {
  const std::lock_guard lock(runtime().mutex);
  *flags = 0;
  *active = static_cast<int>(runtime().contexts.count(number));
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
API cudaDeviceGetAttribute(int* value, int attribute, int number) {
  const char* old = std::getenv("FAKE_CUDA_OLD");
  *value = attribute == kMultiprocessors ? 4 : 1;
  if (attribute == kMajor) *value = old != nullptr && number < std::atoi(old) ? 7 : 9;
  if (attribute == kMinor) *value = 0;
  if (attribute == kSameAddresses && broken("addresses")) *value = 0;
  if (attribute == kReadOnly && broken("read-only")) *value = 0;
  return kSuccess;
}
API cudaGetLastError() { return std::exchange(last_error, broken("lost") ? kIllegalAddress : kSuccess); }
extern "C" __attribute__((visibility("default"))) const char* cudaGetErrorString(int error) {
  return error == kNoDevice ? "no CUDA-capable device is detected" : "the fake runtime refused";
}
extern "C" __attribute__((visibility("default"))) const char* cudaGetErrorName(int error) {
  return error == kNoDevice ? "cudaErrorNoDevice" : "cudaErrorFake";
}

API cudaMalloc(void** memory, std::size_t bytes) {
  if (const int error = barred_in_capture("cudaMalloc"); error != kSuccess) return leave(error);
  return leave(allocate(memory, bytes, kDevice));
}
API cudaFree(void* memory) {
  if (const int error = barred_in_capture("cudaFree"); error != kSuccess) return leave(error);
  return leave(release(memory));
}
API cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  if (const int error = barred_in_capture("cudaHostAlloc"); error != kSuccess) return leave(error);
  return leave(allocate(memory, bytes, kPinned));
}
API cudaFreeHost(void* memory) {
  if (const int error = barred_in_capture("cudaFreeHost"); error != kSuccess) return leave(error);
  return leave(release(memory));
}
API cudaHostRegister(void* memory, std::size_t bytes, unsigned) {
  if (broken("cudaHostRegister")) return leave(kNoMemory);
  if (const int error = barred_in_capture("cudaHostRegister"); error != kSuccess) return leave(error);
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  const auto* begin = static_cast<const char*>(memory);
  const auto after = cuda.memory.lower_bound(begin + bytes);
  if (after != cuda.memory.begin() && std::prev(after)->first + std::prev(after)->second.first > begin)
    return leave(kRegistered);
  cuda.memory[begin] = {bytes, kPinned};
  return kSuccess;
}
API cudaHostUnregister(void* memory) {
  if (const int error = barred_in_capture("cudaHostUnregister"); error != kSuccess) return leave(error);
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  return leave(cuda.memory.erase(static_cast<const char*>(memory)) == 1 ? kSuccess : kNotRegistered);
}

API cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  *attributes = {};
  const auto* at = static_cast<const char*>(memory);
  const auto after = cuda.memory.upper_bound(at);
  if (after == cuda.memory.begin()) return kSuccess;
  const auto& [begin, known] = *std::prev(after);
  if (at >= begin + known.first) return kSuccess;
  attributes->type = known.second;
  attributes->device_pointer = const_cast<void*>(memory);
  return kSuccess;
}

API cudaStreamCreateWithFlags(void** stream, unsigned) {
  if (const int error = barred("cudaStreamCreateWithFlags"); error != kSuccess) return leave(error);
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
  if (found == cuda.streams.end()) return leave(kInvalidValue);
  found->second->ended = true;  // what is queued is still done
  cuda.streams.erase(found);
  cuda.changed.notify_all();
  std::free(stream);
  return kSuccess;
}
API cudaStreamBeginCapture(void* stream, int) {
  const std::lock_guard lock(runtime().mutex);
  stream_of(stream).captured = kActive;
  return kSuccess;
}
API cudaStreamEndCapture(void* stream, void** graph) {
  const std::lock_guard lock(runtime().mutex);
  *graph = nullptr;
  return leave(std::exchange(stream_of(stream).captured, kNone) == kActive ? kSuccess : kCaptureUnsupported);
}
API cudaStreamIsCapturing(void* stream, int* status) {
  const std::lock_guard lock(runtime().mutex);
  *status = stream_of(stream).captured;
  return kSuccess;
}
API cudaThreadExchangeStreamCaptureMode(int* mode) {
  *mode = std::exchange(capture_mode, *mode);
  return kSuccess;
}

API cudaEventCreateWithFlags(void** event, unsigned) {
  if (const int error = barred("cudaEventCreateWithFlags"); error != kSuccess) return leave(error);
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  *event = std::malloc(1);
  cuda.events[*event] = std::make_shared<Event>();
  cuda.events[*event]->device = device;
  return kSuccess;
}
API cudaEventDestroy(void* event) {
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  if (cuda.events.erase(event) == 0) return leave(kInvalidValue);
  std::free(event);
  return kSuccess;
}
// Events that there are: those of a test that ends must be gone.
API fakeEvents() {
  const std::lock_guard lock(runtime().mutex);
  return static_cast<int>(runtime().events.size());
}
API cudaEventRecord(void* event, void* stream) {
  if (const int error = barred("cudaEventRecord"); error != kSuccess) return leave(error);
  Runtime& cuda = runtime();
  std::shared_ptr<Event> recorded;
  {
    const std::lock_guard lock(cuda.mutex);
    recorded = cuda.events.at(event);
    if (recorded->device != stream_of(stream).device) return leave(kInvalidHandle);
    recorded->captured = stream_of(stream).captured != kNone;
    if (recorded->captured) return kSuccess;
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
  if (const int error = barred_in_capture("cudaEventSynchronize"); error != kSuccess) return leave(error);
  Runtime& cuda = runtime();
  std::unique_lock lock(cuda.mutex);
  const std::shared_ptr<Event> asked = cuda.events.at(event);
  if (asked->captured) return leave(kCapturedEvent);
  cuda.changed.wait(lock, [&] { return asked->finished == asked->last; });
  return kSuccess;
}
API cudaEventQuery(void* event) {
  if (const int error = barred_in_capture("cudaEventQuery"); error != kSuccess) return leave(error);
  Runtime& cuda = runtime();
  const std::lock_guard lock(cuda.mutex);
  const Event& asked = *cuda.events.at(event);
  if (asked.captured) return leave(kCapturedEvent);
  return asked.finished == asked.last ? kSuccess : kNotReady;
}
API cudaStreamWaitEvent(void* stream, void* event, unsigned) {
  if (const int error = barred("cudaStreamWaitEvent"); error != kSuccess) return leave(error);
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
  if (const int error = barred("cudaMemcpyAsync"); error != kSuccess) return leave(error);
  enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return kSuccess;
}
API cudaLaunchHostFunc(void* stream, void (*function)(void*), void* argument) {
  enqueue(stream, [=] { function(argument); });
  return kSuccess;
}
