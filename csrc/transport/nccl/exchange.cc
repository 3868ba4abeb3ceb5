#include "transport/nccl/exchange.h"

#include <algorithm>
#include <utility>

#include "cuda/here.h"
#include "transport/nccl/exchange_state.h"
#include "transport/nccl/worker.h"

namespace rudder::nccl {
namespace {

// Between two looks at whether a worker is overdue: it moves its own deadline on as it goes.
constexpr std::chrono::seconds kLook{1};

void check(const Exchange::Config& config) {
  const auto ranks = config.part_starts.size() - 1;
  if (config.part_starts.size() < 2 || config.sockets.size() != ranks)
    throw Error(ErrorCode::kConfig, "an exchange of " + std::to_string(config.sockets.size()) +
                                        " ranks needs part_starts with one entry more");
  if (config.row_bytes == 0) throw Error(ErrorCode::kConfig, "rows must have at least one byte");
  if (config.deadline <= std::chrono::nanoseconds::zero())
    throw Error(ErrorCode::kConfig, "the deadline must be positive");
}

}  // namespace

UniqueId Exchange::new_id(const std::vector<std::string>& nccl_files) {
  const Api nccl = open_nccl(nccl_files);
  UniqueId id{};
  if (const int result = nccl.get_unique_id(&id); result != kSuccess)
    throw Error(ErrorCode::kTransport, std::string("ncclGetUniqueId: ") + nccl.get_error_string(result));
  return id;
}

Exchange::Exchange(Config config) : state_((check(config), std::make_shared<State>(std::move(config)))) {
  State& state = *state_;
  const auto& parts = state.parts;
  if (state.config.shard == nullptr && parts.rows(parts.local()) > 0)
    throw Error(ErrorCode::kConfig,
                "this rank owns " + std::to_string(parts.rows(parts.local())) + " rows, but has no shard");
  state.doing("its start", Clock::now() + state.config.deadline + 2 * state.config.grace);
  thread_ = std::thread([state = state_] { Worker(*state).run(); });
  std::unique_lock lock(state.mutex);
  while (!state.ready && !state.failure) {
    if (Clock::now() >= state.due()) state.give_up();
    state.changed.wait_until(lock, std::min(state.due(), Clock::now() + kLook));
  }
  if (state.ready) return;  // what failed since is told by the calls that it fails
  lock.unlock();
  close();
  state.failure->raise();
}

Exchange::~Exchange() { close(); }

// An event after all that the stream was given so far. Events and streams are of one GPU: the exchange's,
// which need not be the calling thread's.
Round::Event Exchange::mark(const State& state, StreamHandle stream) {
  const Cuda& cuda = state.cuda;
  const cuda::Here here(cuda, state.config.device);
  cuda.check(here.error(), "cudaSetDevice");
  int status = cuda::kNotCapturing;
  cuda.check(cuda.stream_is_capturing(stream, &status), "cudaStreamIsCapturing");
  if (status != cuda::kNotCapturing)
    throw Error(
        ErrorCode::kState,
        "a round cannot begin on a stream that is being captured into a CUDA graph: it is over when the "
        "graph is run");
  void* made = nullptr;
  cuda.check(cuda.event_create(&made, cuda::kEventDisableTiming), "cudaEventCreate");
  Round::Event event(made, cuda.event_destroy);
  cuda.check(cuda.event_record(made, stream), "cudaEventRecord");
  return event;
}

RoundPtr Exchange::start(std::span<const std::int32_t> ids, std::byte* out, std::optional<StreamHandle> after,
                         bool done) {
  return start(group(ids, state_->parts), out, after, done);
}

RoundPtr Exchange::start(std::span<const std::int64_t> ids, std::byte* out, std::optional<StreamHandle> after,
                         bool done) {
  return start(group(ids, state_->parts), out, after, done);
}

RoundPtr Exchange::start(Grouped wanted, std::byte* out, std::optional<StreamHandle> after, bool done) {
  State& state = *state_;
  if (!wanted.rows.empty()) {
    if (done) throw Error(ErrorCode::kConfig, "a rank that has run out asks for no rows");
    if (state.cuda.type_of(out) == kUnregistered)
      throw Error(ErrorCode::kConfig,
                  "rows go to device memory or pinned host memory (tensor.pin_memory()); this is neither");
  }
  auto round = std::make_shared<Round>();
  if (after && !wanted.rows.empty()) round->after_ = mark(state, *after);
  round->wanted_ = std::move(wanted);
  round->out_ = out;
  round->done_ = done;
  const std::lock_guard lock(state.mutex);
  if (state.failure) state.failure->raise();
  if (state.closing) throw Error(ErrorCode::kClosed, "the exchange is closed");
  state.queue.push_back(round);
  state.peers.wake();
  return round;
}

void Exchange::wait(const RoundPtr& round) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  while (!round->finished()) {
    if (Clock::now() >= state.due()) {
      state.give_up();
      break;
    }
    state.changed.wait_until(lock, std::min(state.due(), Clock::now() + kLook));
  }
  if (round->failure_) round->failure_->raise();
}

bool Exchange::at_rest() const {
  const std::lock_guard lock(state_->mutex);
  return !state_->unsettled && (!state_->stranded || state_->ended);
}

Exchange::Stats Exchange::stats() const {
  return {.rounds = state_->rounds, .rows_got = state_->rows_got, .rows_served = state_->rows_served};
}

Serving Exchange::serving() const { return state_->serving; }

void Exchange::close() {
  State& state = *state_;
  state.closing = true;
  state.peers.wake();
  if (!thread_.joinable()) return;
  std::unique_lock lock(state.mutex);
  // The farewell, NCCL's end, its abort and the end of the stream: each takes a grace at most.
  const auto limit = Clock::now() + 5 * state.config.grace;
  if (state.changed.wait_until(lock, limit, [&state] { return state.ended; })) {
    lock.unlock();
    thread_.join();
    return;
  }
  state.give_up();
  thread_.detach();
}

}  // namespace rudder::nccl
