#include "transport/nccl/worker.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "transport/row_copy.h"

namespace rudder::nccl {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// The device is asked again and again for so long without a pause: most trades end within it.
constexpr microseconds kSpin{50};
// Then with pauses that double from the one to the other: a long trade costs no processor.
constexpr microseconds kFirstPause{20}, kLastPause{1000};
// Sockets end a wait for peers by themselves; this is how often the deadline and close() are looked at.
constexpr milliseconds kLook{100};
// Bytes that a thread gathers at a time: enough that handing them out costs nothing.
constexpr std::size_t kGrainBytes = std::size_t{256} << 10;
using cuda::kEventDisableTiming;
using cuda::kMemcpyDefault;
using cuda::kStreamNonBlocking;

}  // namespace

Worker::Worker(Exchange::State& state)
    : state_(state),
      config_(state.config),
      cuda_(state.cuda),
      peers_(state.peers),
      comm_(state.nccl),
      pool_(std::max<std::size_t>(1, state.config.threads)),
      counts_(static_cast<std::size_t>(state.peers.count())),
      asked_(counts_.size()),
      wanted_(cuda_, Buffer::Kind::kPinned),
      asked_for_(cuda_, Buffer::Kind::kPinned),
      serving_(cuda_, state.serving == Serving::kProcessor ? Buffer::Kind::kPinned : Buffer::Kind::kDevice) {}

void Worker::run() {
  FailurePtr failure;
  try {
    open();
    serve();
    part();
  } catch (...) {
    failure = Failure::current();
  }
  if (failure) fail(failure);
  if (event_ != nullptr) cuda_.event_destroy(event_);
  if (stream_ != nullptr) cuda_.stream_destroy(stream_);
  const std::lock_guard lock(state_.mutex);
  state_.idle();
  state_.ended = true;
  if (failure) state_.fail(failure);
  state_.changed.notify_all();
}

void Worker::open() {
  // This thread is Rudder's own: the GPU stays its own, and a CUDA graph that another thread captures is not
  // disturbed by what it asks.
  int mode = cuda::kCaptureRelaxed;
  cuda_.check(cuda_.thread_exchange_stream_capture_mode(&mode), "cudaThreadExchangeStreamCaptureMode");
  cuda_.check(cuda_.set_device(config_.device), "cudaSetDevice");
  cuda_.check(cuda_.stream_create(&stream_, kStreamNonBlocking), "cudaStreamCreate");
  cuda_.check(cuda_.event_create(&event_, kEventDisableTiming), "cudaEventCreate");
  // FNV-1a: ranks that split the table otherwise would ask each other for the wrong rows.
  std::uint64_t layout = 0xcbf29ce484222325;
  for (const std::int64_t start : config_.part_starts)
    layout = (layout ^ static_cast<std::uint64_t>(start)) * 0x100000001b3;
  const Peers::Agreement ours{config_.row_bytes, layout};
  peers_.agree(ours);
  wait_until([&] { return peers_.agreed(ours); }, For::kPeers, "the start of the other ranks");
  try {
    comm_.open(config_.id, config_.rank, peers_.count(), config_.max_ctas);
    wait_until([this] { return comm_.settled(); }, For::kDevice, "ncclCommInitRankConfig");
  } catch (const NcclFailure& nccl) {
    inquire(ErrorCode::kTransport, nccl.what());
  }
  const std::lock_guard lock(state_.mutex);
  state_.idle();
  state_.ready = true;
  state_.changed.notify_all();
}

void Worker::serve() {
  for (;;) {
    RoundPtr round;
    {
      const std::lock_guard lock(state_.mutex);
      if (state_.stranded) return;
      if (!state_.queue.empty()) round = state_.queue.front();
    }
    if (round) {
      try {
        run(*round);
      } catch (const NcclFailure& nccl) {
        inquire(ErrorCode::kTransport, nccl.what());
      }
      const std::lock_guard lock(state_.mutex);
      state_.idle();
      if (!state_.queue.empty()) state_.queue.pop_front();
      round->finished_.store(true, std::memory_order_release);
      state_.changed.notify_all();
    } else if (state_.closing) {
      return;
    } else {
      peers_.turn(kLook);
      peers_.check(false);
    }
  }
}

void Worker::run(Round& round) {
  ++number_;
  agree_on(round);
  trade_row_numbers(round);
  check_row_numbers();
  trade_rows(round);
  round.after_.reset();
  const auto own_rows = counts_[static_cast<std::size_t>(config_.rank)];
  state_.rounds += 1;
  state_.rows_got += round.wanted_.rows.size() - static_cast<std::size_t>(own_rows);
  state_.rows_served += asked_rows_ - static_cast<std::size_t>(own_rows);
}

void Worker::agree_on(Round& round) {
  counts_ = round.wanted_.counts;
  for (std::size_t p = 0; p < ranks(); ++p)
    if (!own(p)) peers_.wish(static_cast<int>(p), {number_, counts_[p], round.done_});
  wait_until([this] { return peers_.wishes(number_); }, For::kPeers, "the other ranks' round");
  round.all_done_ = round.done_;
  asked_rows_ = 0;
  for (std::size_t p = 0; p < ranks(); ++p) {
    const Peers::Wish wish =
        own(p) ? Peers::Wish{number_, counts_[p], round.done_} : peers_.take(static_cast<int>(p));
    const int peer = static_cast<int>(p);
    if (wish.rows < 0)
      throw FetchError(ErrorCode::kTransport, peers_.who(peer) + " asked for fewer than no rows", peer, {},
                       peers_.place(peer));
    round.all_done_ = round.all_done_ && wish.done;
    asked_[p] = wish.rows;
    asked_rows_ += static_cast<std::size_t>(wish.rows);
  }
}

void Worker::trade_row_numbers(const Round& round) {
  auto* wanted =
      reinterpret_cast<std::int64_t*>(wanted_.of(round.wanted_.rows.size() * sizeof(std::int64_t)));
  auto* asked_for = reinterpret_cast<std::int64_t*>(asked_for_.of(asked_rows_ * sizeof(std::int64_t)));
  std::copy(round.wanted_.rows.begin(), round.wanted_.rows.end(), wanted);
  std::vector<Communicator::Transfer> sends, receives;
  for (std::size_t p = 0; p < ranks(); ++p) {
    const auto sent = static_cast<std::size_t>(counts_[p]), received = static_cast<std::size_t>(asked_[p]);
    if (!by_nccl(p)) std::copy_n(wanted, sent, asked_for);
    if (by_nccl(p) && sent > 0) sends.push_back({static_cast<int>(p), wanted, sent});
    if (by_nccl(p) && received > 0) receives.push_back({static_cast<int>(p), asked_for, received});
    wanted += sent;
    asked_for += received;
  }
  trade(sends, receives, kInt64, "row numbers of the round");
  drain_stream("row numbers of the round");
}

void Worker::check_row_numbers() const {
  const std::int64_t shard = state_.parts.rows(state_.parts.local());
  const auto* row = reinterpret_cast<const std::int64_t*>(asked_for_.data());
  for (std::size_t p = 0; p < ranks(); ++p)
    for (std::int64_t i = 0; i < asked_[p]; ++i, ++row)
      if (*row < 0 || *row >= shard)
        throw FetchError(ErrorCode::kTransport,
                         peers_.who(static_cast<int>(p)) + " asked for row " + std::to_string(*row) +
                             " of the shard of rank " + std::to_string(config_.rank) + ", which has " +
                             std::to_string(shard) + " rows",
                         static_cast<std::int32_t>(p), {*row}, peers_.place(static_cast<int>(p)));
}

void Worker::trade_rows(Round& round) {
  const std::size_t width = config_.row_bytes;
  std::byte* serving = serving_.of(asked_rows_ * width);
  if (round.after_)
    cuda_.check(cuda_.stream_wait_event(stream_, round.after_.get(), 0), "cudaStreamWaitEvent");
  gather({reinterpret_cast<const std::int64_t*>(asked_for_.data()), asked_rows_}, serving);
  std::vector<Communicator::Transfer> sends, receives;
  std::byte* out = round.out_;
  for (std::size_t p = 0; p < ranks(); ++p) {
    const auto sent = static_cast<std::size_t>(asked_[p]) * width;
    const auto received = static_cast<std::size_t>(counts_[p]) * width;
    if (!by_nccl(p) && received > 0)
      cuda_.check(cuda_.memcpy_async(out, serving, received, kMemcpyDefault, stream_), "cudaMemcpyAsync");
    if (by_nccl(p) && sent > 0) sends.push_back({static_cast<int>(p), serving, sent});
    if (by_nccl(p) && received > 0) receives.push_back({static_cast<int>(p), out, received});
    serving += sent;
    out += received;
  }
  trade(sends, receives, kInt8, "rows of the round");
  drain_stream("rows of the round");
}

void Worker::gather(std::span<const std::int64_t> rows, std::byte* serving) {
  if (rows.empty()) return;
  const std::size_t width = config_.row_bytes;
  switch (state_.serving) {
    case Serving::kKernel:
      return config_.gather(config_.shard, rows, width, serving, stream_);
    case Serving::kCopies:
      for (std::size_t begin = 0, end = 1; begin < rows.size(); begin = end++) {
        while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
        const auto* from = config_.shard + static_cast<std::size_t>(rows[begin]) * width;
        cuda_.check(
            cuda_.memcpy_async(serving + begin * width, from, (end - begin) * width, kMemcpyDefault, stream_),
            "cudaMemcpyAsync");
      }
      return;
    case Serving::kProcessor:
      break;
  }
  const std::size_t grain = std::max<std::size_t>(1, kGrainBytes / width);
  pool_.split(rows.size(), grain, [&](std::size_t begin, std::size_t end) {
    copy_rows(config_.shard, rows.subspan(begin, end - begin), width, serving + begin * width);
  });
}

void Worker::trade(const std::vector<Communicator::Transfer>& sends,
                   const std::vector<Communicator::Transfer>& receives, DataType type, const char* what) {
  if (sends.empty() && receives.empty()) return;
  comm_.exchange(sends, receives, type, stream_);
  wait_until([this] { return comm_.settled(); }, For::kDevice, what);
}

void Worker::drain_stream(const char* what) {
  cuda_.check(cuda_.event_record(event_, stream_), "cudaEventRecord");
  wait_until([this] { return comm_.settled() && cuda_.done(event_); }, For::kDevice, what);
}

template <class Ready>
void Worker::wait_until(Ready ready, For what_for, const char* what) {
  const auto began = Clock::now(), due = began + config_.deadline;
  state_.doing(what, due + 2 * config_.grace);
  std::chrono::nanoseconds pause = kFirstPause;
  while (!ready()) {
    if (state_.closing)
      throw Error(ErrorCode::kClosed, "the exchange was closed while it waited for " + std::string(what));
    const auto now = Clock::now();
    if (now >= due) overdue(what_for, what);
    const std::chrono::nanoseconds left = due - now;
    if (what_for == For::kPeers) {
      peers_.turn(std::min<std::chrono::nanoseconds>(left, kLook));
    } else if (now - began < kSpin) {
      peers_.turn(std::chrono::nanoseconds::zero());
    } else {
      peers_.turn(std::min(left, pause));
      pause = std::min<std::chrono::nanoseconds>(2 * pause, kLastPause);
    }
    peers_.check(what_for == For::kPeers);
  }
}

void Worker::overdue(For what_for, const char* what) {
  const auto seconds = std::chrono::duration<double>(config_.deadline).count();
  const std::string late = std::string(what) + " did not come within " + std::to_string(seconds) + " s";
  if (what_for == For::kDevice) inquire(ErrorCode::kDeadline, late);
  const std::vector<int> missing = peers_.without_wish();
  throw FetchError(
      ErrorCode::kDeadline,
      late + ": " + peers_.who(missing) + " did not begin round " + std::to_string(number_) +
          " (every rank takes part in every round; one that has no more minibatches calls drain())",
      missing.empty() ? -1 : missing.front(), {},
      missing.empty() ? std::string{} : peers_.place(missing.front()));
}

void Worker::inquire(ErrorCode code, const std::string& text) {
  state_.doing("the inquiry", Clock::now() + 2 * config_.grace);
  const auto due = Clock::now() + config_.grace / 2;
  peers_.ping();
  while (!peers_.silent().empty() && Clock::now() < due) {
    peers_.turn(due - Clock::now());
    peers_.check(false);
  }
  const std::vector<int> silent = peers_.silent();
  if (!silent.empty())
    throw FetchError(code, text + ": " + peers_.who(silent) + " does not answer", silent.front(), {},
                     peers_.place(silent.front()));
  throw Error(code, text + ", though every rank answers");
}

void Worker::fail(const FailurePtr& failure) {
  peers_.fail(failure->part, failure->message);
  peers_.turn(std::chrono::nanoseconds::zero());
  abort();
}

void Worker::abort() {
  state_.doing("ncclCommAbort", Clock::now() + config_.grace);
  const bool aborted = comm_.abort();
  const auto due = Clock::now() + config_.grace;
  state_.doing("the end of its stream", due + config_.grace);
  if (aborted && stream_ends(due)) return;
  for (Buffer* buffer : {&wanted_, &asked_for_, &serving_}) buffer->keep();
  stream_ = event_ = nullptr;
  const std::lock_guard lock(state_.mutex);
  state_.unsettled = true;
}

bool Worker::stream_ends(Clock::time_point by) {
  if (event_ == nullptr) return true;  // nothing was ever queued
  int error = cuda_.event_record(event_, stream_);
  if (error == 0) error = cuda_.event_query(event_);
  for (; error == cuda::kNotReady && Clock::now() < by; error = cuda_.event_query(event_))
    peers_.turn(kLastPause);
  if (error != 0) cuda_.get_last_error();
  return error == 0 || cuda::is_loss(error);
}

void Worker::part() {
  peers_.bye();
  // Whoever has said goodbye, or begun the next round, has all of its rows: only then may NCCL's memory go.
  const auto due = Clock::now() + config_.grace;
  state_.doing("its end", due + 2 * config_.grace);
  while (!peers_.parted() && Clock::now() < due)
    peers_.turn(std::min<std::chrono::nanoseconds>(due - Clock::now(), kLook));
  bool orderly = false;
  try {
    comm_.finalize();
    while (!(orderly = comm_.settled()) && Clock::now() < due) peers_.turn(kLastPause);
    if (orderly) comm_.destroy();
  } catch (const NcclFailure&) {
    orderly = false;
  }
  if (!orderly) abort();
}

}  // namespace rudder::nccl
