// Ranks of an exchange as threads of a test, over the fake NCCL and the fake CUDA runtime.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <latch>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "transport/nccl/exchange.h"

namespace rudder::nccl {

// Functions of the fake runtime that only tests call.
struct FakeCuda {
  int (*malloc)(void**, std::size_t) = nullptr;
  int (*free)(void*) = nullptr;
  int (*host_alloc)(void**, std::size_t, unsigned) = nullptr;
  int (*free_host)(void*) = nullptr;
  int (*launch)(void* stream, void (*function)(void*), void* argument) = nullptr;
  int (*get_device)(int*) = nullptr;
  int (*set_device)(int) = nullptr;
  int (*stream_create)(void**, unsigned) = nullptr;
  int (*stream_destroy)(void*) = nullptr;
  int (*begin_capture)(void* stream, int mode) = nullptr;
  int (*events)() = nullptr;  // that there are

  FakeCuda() {
    void* library = dlopen(RUDDER_FAKE_CUDART, RTLD_NOW);
    const auto find = [library](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    };
    find(malloc, "cudaMalloc");
    find(free, "cudaFree");
    find(host_alloc, "cudaHostAlloc");
    find(free_host, "cudaFreeHost");
    find(launch, "cudaLaunchHostFunc");
    find(get_device, "cudaGetDevice");
    find(set_device, "cudaSetDevice");
    find(stream_create, "cudaStreamCreateWithFlags");
    find(stream_destroy, "cudaStreamDestroy");
    find(begin_capture, "cudaStreamBeginCapture");
    find(events, "fakeEvents");
  }
};
inline const FakeCuda& fake_cuda() {
  static const FakeCuda instance;
  return instance;
}

// A stream of one of the fake's GPUs, and what is to wait on it.
class OnStream {
 public:
  explicit OnStream(int device) {
    int before = 0;
    fake_cuda().get_device(&before);
    fake_cuda().set_device(device);
    fake_cuda().stream_create(&handle_, 0);
    fake_cuda().set_device(before);
  }
  ~OnStream() { fake_cuda().stream_destroy(handle_); }
  OnStream(const OnStream&) = delete;
  OnStream& operator=(const OnStream&) = delete;

  StreamHandle handle() const { return handle_; }
  // What is queued from now on waits for open().
  void block() {
    fake_cuda().launch(handle_, [](void* gate) { static_cast<std::latch*>(gate)->wait(); }, &gate_);
  }
  void open() { gate_.count_down(); }

 private:
  void* handle_ = nullptr;
  std::latch gate_{1};
};

enum class Where { kPageable, kPinned, kDevice };

// Memory of one kind. Device memory is the fake's, so tests may look into it.
class Memory {
 public:
  Memory(Where where, std::size_t bytes) : where_(where) {
    void* memory = nullptr;
    if (where_ == Where::kDevice) fake_cuda().malloc(&memory, bytes + 1);
    if (where_ == Where::kPinned) fake_cuda().host_alloc(&memory, bytes + 1, 0);
    if (where_ == Where::kPageable) memory = std::malloc(bytes + 1);
    data_ = static_cast<std::byte*>(memory);
  }
  ~Memory() {
    if (where_ == Where::kDevice) fake_cuda().free(data_);
    if (where_ == Where::kPinned) fake_cuda().free_host(data_);
    if (where_ == Where::kPageable) std::free(data_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  std::byte* data() const { return data_; }

 private:
  const Where where_;
  std::byte* data_ = nullptr;
};

// What a gather kernel does, in the order of the stream.
inline void gather_on_stream(const std::byte* table, std::span<const std::int64_t> rows,
                             std::size_t row_bytes, std::byte* out, StreamHandle stream) {
  using Work = std::function<void()>;
  auto work = std::make_unique<Work>([=] {
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::memcpy(out + i * row_bytes, table + static_cast<std::size_t>(rows[i]) * row_bytes, row_bytes);
  });
  fake_cuda().launch(
      stream,
      [](void* argument) {
        const std::unique_ptr<Work> once(static_cast<Work*>(argument));
        (*once)();
      },
      work.release());
}

// A table split over ranks, and what each needs to join an exchange.
class Ranks {
 public:
  Ranks(std::vector<std::int64_t> part_starts, std::size_t row_bytes, Where where = Where::kPageable)
      : part_starts_(std::move(part_starts)),
        row_bytes_(row_bytes),
        where_(where),
        id_(Exchange::new_id({RUDDER_FAKE_NCCL})),
        rows_(static_cast<std::size_t>(part_starts_.back()) * row_bytes) {
    std::mt19937 random(7);
    for (auto& byte : rows_) byte = static_cast<std::byte>(random());
    const std::size_t ranks = part_starts_.size() - 1;
    sockets_.assign(ranks, std::vector<int>(ranks, -1));
    for (std::size_t a = 0; a < ranks; ++a) {
      for (std::size_t b = a + 1; b < ranks; ++b) {
        int pair[2];
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        sockets_[a][b] = pair[0];
        sockets_[b][a] = pair[1];
      }
      const auto begin = static_cast<std::size_t>(part_starts_[a]) * row_bytes;
      const auto end = static_cast<std::size_t>(part_starts_[a + 1]) * row_bytes;
      shards_.push_back(std::make_unique<Memory>(where, end - begin));
      std::memcpy(shards_.back()->data(), rows_.data() + begin, end - begin);
    }
  }

  ~Ranks() {
    for (const auto& sockets : sockets_)
      for (const int socket : sockets)
        if (socket >= 0) close(socket);
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  std::size_t count() const { return shards_.size(); }
  std::int64_t ids() const { return part_starts_.back(); }
  std::size_t row_bytes() const { return row_bytes_; }
  const std::byte* row(std::int64_t id) const {
    return rows_.data() + static_cast<std::size_t>(id) * row_bytes_;
  }

  Exchange::Config config(std::size_t rank) const {
    Exchange::Config config;
    config.nccl_files = {RUDDER_FAKE_NCCL};
    config.cuda_files = {RUDDER_FAKE_CUDART};
    config.device = static_cast<int>(rank);
    config.rank = static_cast<int>(rank);
    config.sockets = sockets_[rank];
    config.id = id_;
    config.part_starts = part_starts_;
    config.row_bytes = row_bytes_;
    config.shard = shards_[rank]->data();
    if (where_ != Where::kPageable) config.gather = gather_on_stream;
    config.deadline = std::chrono::seconds(20);
    config.grace = std::chrono::seconds(2);
    return config;
  }

  // Runs `body(rank)` for all ranks at once, each on a thread.
  void run(const std::function<void(std::size_t)>& body) const {
    std::vector<std::thread> threads;
    for (std::size_t rank = 0; rank < count(); ++rank) threads.emplace_back(body, rank);
    for (auto& thread : threads) thread.join();
  }

  // Are the rows of `ids` in `out`, and is the byte behind them as it was?
  void expect_rows(const Round& round, const std::vector<std::int64_t>& ids, const std::byte* out) const {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto at = round.positions().empty() ? i : static_cast<std::size_t>(round.positions()[i]);
      ASSERT_EQ(std::memcmp(out + at * row_bytes_, row(ids[i]), row_bytes_), 0) << "id " << ids[i];
    }
    ASSERT_EQ(out[ids.size() * row_bytes_], std::byte{0x5a});
  }

 private:
  const std::vector<std::int64_t> part_starts_;
  const std::size_t row_bytes_;
  const Where where_;
  const UniqueId id_;
  std::vector<std::byte> rows_;
  std::vector<std::vector<int>> sockets_;
  std::vector<std::unique_ptr<Memory>> shards_;
};

// Sets a variable for the length of a test.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Environment() { unsetenv(name_); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  const char* name_;
};

}  // namespace rudder::nccl
