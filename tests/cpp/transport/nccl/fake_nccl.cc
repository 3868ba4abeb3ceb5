// An NCCL for tests, as a library to be opened in place of the real one: communicators that do not block, and
// grouped sends and receives that move bytes between threads or processes of one machine over sockets, in the
// order of the (fake) CUDA streams. It is stricter than NCCL: memory that no GPU could reach and counts that
// differ at the two ends are errors. Nothing of NCCL is needed to build it.
//
// FAKE_NCCL_FAULT, "KIND:RANK:GROUP", breaks one rank at its GROUPth group (from 1; 0 is its start):
//   async    an asynchronous error (a broken link)       hang  the transfer never ends
//   die      SIGKILL in the middle of a transfer         stuck neither does ncclCommAbort come back
//   refuse   the transfer ends late, and ncclCommAbort fails
// As between GPUs of one host, a rank whose peer has died waits until it is aborted; where FAKE_NCCL_DEATH is
// "error" it reports a remote error, as over a network.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

struct FakePointer {
  int type, device;
  void *device_pointer, *host_pointer;
  long reserved[8];
};
extern "C" int cudaPointerGetAttributes(FakePointer* attributes, const void* memory);
extern "C" int cudaLaunchHostFunc(void* stream, void (*function)(void*), void* argument);

namespace {

enum Result : int {
  kSuccess = 0,
  kSystem = 2,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemote = 6,
  kInProgress = 7
};

struct Id {
  char internal[128];
};

struct Transfer {
  bool sends;
  char* memory;
  std::uint64_t bytes;
  int peer;
  std::uint64_t at = 0;  // of header and payload together
  std::uint64_t header = 0;

  bool ended() const { return at == sizeof(header) + bytes; }
};

}  // namespace

struct ncclComm {
  int rank, ranks;
  std::string id;
  std::vector<int> sockets;
  std::atomic<int> state{kInProgress};
  std::atomic<bool> aborted{false};
  std::thread starter;
  int groups = 0;
  std::string fault;
  int fault_group = -1;
  std::mutex mutex;
  std::condition_variable changed;
  int running = 0;
};

namespace {

constexpr auto kTick = std::chrono::milliseconds(2);

bool breaks(const ncclComm* comm, const char* kind, int group) {
  return comm->fault == kind && comm->fault_group == group;
}

void until_aborted(ncclComm* comm) {
  while (!comm->aborted) std::this_thread::sleep_for(kTick);
}

sockaddr_un address_of(const std::string& id, int rank, socklen_t& length) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "fake-nccl-" + id + "-" + std::to_string(rank);
  std::memcpy(address.sun_path + 1, name.data(), name.size());  // abstract: needs no file
  length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

void start(ncclComm* comm) {
  if (breaks(comm, "hang", 0)) return until_aborted(comm);
  socklen_t length = 0;
  const sockaddr_un mine = address_of(comm->id, comm->rank, length);
  const int door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(door, reinterpret_cast<const sockaddr*>(&mine), length) != 0 || listen(door, 64) != 0) {
    comm->state = kSystem;
    return;
  }
  for (int peer = 0; peer < comm->rank && !comm->aborted;) {
    const sockaddr_un theirs = address_of(comm->id, peer, length);
    const int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(made, reinterpret_cast<const sockaddr*>(&theirs), length) == 0 &&
        write(made, &comm->rank, sizeof(int)) == sizeof(int)) {
      comm->sockets[peer++] = made;
    } else {
      close(made);
      std::this_thread::sleep_for(kTick);
    }
  }
  for (int left = comm->ranks - 1 - comm->rank; left > 0 && !comm->aborted;) {
    const int met = accept4(door, nullptr, nullptr, SOCK_CLOEXEC);
    int peer = 0;
    if (met >= 0 && read(met, &peer, sizeof(int)) == sizeof(int)) {
      comm->sockets[peer] = met;
      --left;
    } else {
      std::this_thread::sleep_for(kTick);
    }
  }
  close(door);
  for (const int made : comm->sockets)
    if (made >= 0) fcntl(made, F_SETFL, fcntl(made, F_GETFL) | O_NONBLOCK);
  int expected = kInProgress;
  comm->state.compare_exchange_strong(expected, kSuccess);
}

// Moves what can be moved. False where the peer is gone, or sends another count.
bool move(ncclComm* comm, Transfer& transfer) {
  const int socket = comm->sockets[transfer.peer];
  while (!transfer.ended()) {
    const bool in_header = transfer.at < sizeof(transfer.header);
    char* memory = in_header ? reinterpret_cast<char*>(&transfer.header) + transfer.at
                             : transfer.memory + (transfer.at - sizeof(transfer.header));
    const std::uint64_t end = in_header ? sizeof(transfer.header) : sizeof(transfer.header) + transfer.bytes;
    const ssize_t moved = transfer.sends ? send(socket, memory, end - transfer.at, MSG_NOSIGNAL)
                                         : recv(socket, memory, end - transfer.at, 0);
    if (moved < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (moved <= 0) return false;
    transfer.at += static_cast<std::uint64_t>(moved);
    if (!transfer.sends && transfer.at == sizeof(transfer.header) && transfer.header != transfer.bytes) {
      comm->state = kInvalidUsage;
      return false;
    }
  }
  return true;
}

struct Group {
  ncclComm* comm;
  int number;
  std::vector<Transfer> transfers;
};

void run_transfers(ncclComm* comm, std::vector<Transfer>& transfers, int number) {
  if (breaks(comm, "async", number)) comm->state = kSystem;
  if (breaks(comm, "async", number) || breaks(comm, "hang", number) || breaks(comm, "stuck", number) ||
      breaks(comm, "refuse", number))
    return until_aborted(comm);
  // To itself: the sends in their order, into the receives in theirs.
  std::vector<Transfer*> to_self, from_self;
  for (Transfer& transfer : transfers)
    if (transfer.peer == comm->rank) (transfer.sends ? to_self : from_self).push_back(&transfer);
  for (std::size_t i = 0; i < to_self.size(); ++i) {
    std::memcpy(from_self.at(i)->memory, to_self[i]->memory, to_self[i]->bytes);
    to_self[i]->at = from_self[i]->at = sizeof(std::uint64_t) + to_self[i]->bytes;
  }
  while (!comm->aborted) {
    std::vector<pollfd> waits;
    for (Transfer& transfer : transfers) {
      if (transfer.ended()) continue;
      if (!move(comm, transfer)) {
        const char* death = std::getenv("FAKE_NCCL_DEATH");
        int expected = kSuccess;
        if (death != nullptr && std::string(death) == "error")
          comm->state.compare_exchange_strong(expected, kRemote);
        return until_aborted(comm);
      }
      if (breaks(comm, "die", number)) std::raise(SIGKILL);
      if (!transfer.ended())
        waits.push_back(
            {comm->sockets[transfer.peer], static_cast<short>(transfer.sends ? POLLOUT : POLLIN), 0});
    }
    if (waits.empty()) return;
    poll(waits.data(), waits.size(), static_cast<int>(kTick.count()));
  }
}

void run_group(void* argument) {
  const std::unique_ptr<Group> group(static_cast<Group*>(argument));
  run_transfers(group->comm, group->transfers, group->number);
  const std::lock_guard lock(group->comm->mutex);
  --group->comm->running;
  group->comm->changed.notify_all();
}

thread_local int depth = 0;
thread_local Group* open_group = nullptr;
thread_local void* open_stream = nullptr;

int add(const void* memory, std::size_t count, int type, int peer, ncclComm* comm, void* stream, bool sends) {
  FakePointer pointer{};
  cudaPointerGetAttributes(&pointer, memory);
  if (depth == 0 || pointer.type == 0 || peer < 0 || peer >= comm->ranks || comm->state != kSuccess)
    return kInvalidArgument;
  if (open_group == nullptr) open_group = new Group{comm, 0, {}};
  open_stream = stream;
  const std::uint64_t bytes = count * (type == 4 ? 8 : 1);
  open_group->transfers.push_back(
      {sends, static_cast<char*>(const_cast<void*>(memory)), bytes, peer, 0, bytes});
  if (!sends) open_group->transfers.back().header = 0;
  return kSuccess;
}

void release(ncclComm* comm) {
  if (comm->starter.joinable()) comm->starter.join();
  {
    std::unique_lock lock(comm->mutex);
    comm->changed.wait(lock, [comm] { return comm->running == 0; });
  }
  for (const int made : comm->sockets)
    if (made >= 0) close(made);
  delete comm;
}

}  // namespace

#define API extern "C" __attribute__((visibility("default")))

API int ncclGetVersion(int* version) {
  *version = 22703;
  return kSuccess;
}
API int ncclGetUniqueId(Id* id) {
  std::random_device random;
  const std::string text = std::to_string(random()) + "-" + std::to_string(random());
  *id = {};
  std::memcpy(id->internal, text.data(), text.size());
  return kSuccess;
}
API int ncclCommInitRankConfig(ncclComm** comm, int ranks, Id id, int rank, const void* config) {
  struct Config {
    std::size_t size;
    unsigned magic, version;
    int blocking;
  } given;
  std::memcpy(&given, config, sizeof(given));
  if (given.magic != 0xcafebeef || given.size < sizeof(given) || given.blocking != 0) return kInvalidArgument;
  *comm = new ncclComm{};
  (*comm)->rank = rank;
  (*comm)->ranks = ranks;
  (*comm)->id = id.internal;
  (*comm)->sockets.assign(ranks, -1);
  if (const char* fault = std::getenv("FAKE_NCCL_FAULT"); fault != nullptr) {
    const std::string text = fault;
    const auto first = text.find(':'), second = text.find(':', first + 1);
    if (std::stoi(text.substr(first + 1)) == rank) {
      (*comm)->fault = text.substr(0, first);
      (*comm)->fault_group = std::stoi(text.substr(second + 1));
    }
  }
  (*comm)->starter = std::thread(start, *comm);
  return kInProgress;
}
API int ncclCommGetAsyncError(ncclComm* comm, int* state) {
  *state = comm->state;
  return kSuccess;
}
API int ncclGroupStart() {
  ++depth;
  return kSuccess;
}
API int ncclSend(const void* from, std::size_t count, int type, int peer, ncclComm* comm, void* stream) {
  return add(from, count, type, peer, comm, stream, true);
}
API int ncclRecv(void* to, std::size_t count, int type, int peer, ncclComm* comm, void* stream) {
  return add(to, count, type, peer, comm, stream, false);
}
API int ncclGroupEnd() {
  if (--depth > 0 || open_group == nullptr) return kSuccess;
  // On the stream a while later only, as NCCL may do: until then the communicator is in progress.
  Group* group = std::exchange(open_group, nullptr);
  ncclComm* comm = group->comm;
  group->number = ++comm->groups;
  comm->state = kInProgress;
  {
    const std::lock_guard lock(comm->mutex);
    ++comm->running;
  }
  if (comm->starter.joinable()) comm->starter.join();
  comm->starter = std::thread([comm, group, stream = open_stream] {
    cudaLaunchHostFunc(stream, run_group, group);
    int expected = kInProgress;
    comm->state.compare_exchange_strong(expected, kSuccess);
  });
  return kInProgress;
}
API int ncclCommFinalize(ncclComm*) { return kSuccess; }
API int ncclCommDestroy(ncclComm* comm) {
  release(comm);
  return kSuccess;
}
API int ncclCommAbort(ncclComm* comm) {
  const bool refuses = comm->fault == "refuse" && comm->groups >= comm->fault_group;
  if (comm->fault == "stuck" && comm->groups >= comm->fault_group) {
    comm->starter.detach();
    for (;;) pause();
  }
  comm->aborted = true;
  release(comm);
  return refuses ? kSystem : kSuccess;
}
API const char* ncclGetErrorString(int result) {
  switch (result) {
    case kSystem:
      return "unhandled system error";
    case kInvalidArgument:
      return "invalid argument";
    case kInvalidUsage:
      return "the two ends name different counts";
    case kRemote:
      return "remote process exited or there was a network error";
    default:
      return "no error";
  }
}
API const char* ncclGetLastError(ncclComm*) { return ""; }
