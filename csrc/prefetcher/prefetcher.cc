#include "prefetcher/prefetcher.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "common/error.h"

namespace rudder {
namespace {

// How often a waiting call looks for an interrupt: prompt for a person, nothing for a processor.
constexpr std::chrono::milliseconds kPollEvery{100};

void check(const PrefetcherConfig& config) {
  const auto fail = [](const std::string& what) { throw Error(ErrorCode::kConfig, what); };
  const PartMap parts(config.part_starts, config.local_part);
  if (config.routes.size() != static_cast<std::size_t>(parts.parts()))
    fail("routes must have one entry per partition");
  if (parts.rows(parts.local()) > 0 && config.local_rows == nullptr)
    fail("the local partition has rows, but local_rows is missing");
  if (parts.rows(parts.local()) >= std::int64_t{Minibatch::kRemote})
    fail("a partition holds at most 2^31 - 1 rows");
  for (std::int32_t p = 0; p < parts.parts(); ++p) {
    const auto part = static_cast<PartId>(p);
    if (part != parts.local() && parts.rows(part) > 0 && config.routes[static_cast<std::size_t>(p)].empty())
      fail("partition " + std::to_string(p) + " has rows, but no transport leads to it");
  }
  if (config.depth < 1) fail("the fetch depth must be at least 1 minibatch");
  if (config.threads < 1) fail("at least 1 thread must copy rows");
  if (config.device_rows > 0 && !config.gpu) fail("rows can be held in device memory only with a GPU");
}

// More slots than rows exist would only cost memory; rows of the local partition are never fetched.
std::size_t useful(std::size_t slots, const PartMap& parts) {
  return std::min(slots, static_cast<std::size_t>(parts.ids() - parts.rows(parts.local())));
}

PolicyConfig useful(PolicyConfig policy, const PartMap& parts) {
  policy.capacity = useful(policy.capacity, parts);
  policy.prior = Prior::without(policy.prior, parts.local_begin(), parts.local_end());
  return policy;
}

std::size_t size_of(std::span<std::byte> out) { return out.size(); }
std::size_t size_of(const DeviceOut& out) { return out.bytes; }

}  // namespace

Prefetcher::Prefetcher(const PrefetcherConfig& config)
    : row_bytes_((check(config), config.row_bytes)),
      parts_(config.part_starts, config.local_part),
      local_rows_(config.local_rows),
      recording_(config.record),
      gpu_(config.gpu),
      local_(gpu_, local_rows_, static_cast<std::size_t>(parts_.rows(parts_.local())) * row_bytes_),
      ledger_({.id_space = parts_.ids(), .policy = useful(config.policy, parts_), .depth = config.depth}),
      store_(parts_, config.table, ledger_.policy().capacity(),
             useful(std::max(config.policy.capacity, config.most_rows), parts_), config.row_bytes, gpu_),
      depth_(config.depth),
      staging_bytes_(config.staging_bytes),
      window_rows_(config.window_rows),
      pool_(config.threads) {
  engine_ =
      std::make_unique<FetchEngine>(FetchConfig{.table = config.table,
                                                .row_bytes = config.row_bytes,
                                                .part_starts = config.part_starts,
                                                .routes = config.routes,
                                                .deadline = config.deadline},
                                    [this](FetchEngine::FetchId id, FailurePtr error) {
                                      post([this, id, error = std::move(error)] { on_fetched(id, error); });
                                    });
  if (gpu_) set_device_rows(config.device_rows);
  publish();
  owner_ = std::thread([this] { own(); });
}

Prefetcher::~Prefetcher() {
  close();
  copies_.wait();  // of a call that was under way when it was closed
}

// ---------------------------------------------------------------- any thread

void Prefetcher::check_open() const {
  if (fatal_) fatal_->raise();
  if (closed_) throw Error(ErrorCode::kClosed, "the prefetcher is closed");
}

void Prefetcher::post(std::function<void()> command) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  commands_.push_back(std::move(command));
  changed_.notify_all();
}

void Prefetcher::post_and_wait(std::function<void()> command) {
  // Shared with the command, which may outlive this call when the prefetcher is closed meanwhile.
  struct Call {
    FailurePtr error;
    bool done = false;
  };
  const auto call = std::make_shared<Call>();
  std::unique_lock lock(mutex_);
  check_open();
  commands_.emplace_back([this, call, command = std::move(command)] {
    const auto answer = [&](FailurePtr error) {
      const std::lock_guard guard(mutex_);
      call->error = std::move(error);
      call->done = true;
      changed_.notify_all();
    };
    try {
      command();
      if (gpu_) settle();
      publish();
    } catch (...) {
      answer(Failure::current());
      throw;  // arguments were checked before: this is fatal, and own() ends
    }
    answer(nullptr);
  });
  changed_.notify_all();
  changed_.wait(lock, [&] { return call->done || closed_; });
  if (!call->done) check_open();
  if (call->error) call->error->raise();
}

Prefetcher::BatchPtr Prefetcher::split(std::span<const NodeId> ids, std::vector<NodeId>& remote) const {
  auto batch = std::make_shared<Minibatch>();
  batch->places.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (value(ids[i]) < 0 || value(ids[i]) >= parts_.ids())
      throw Error(ErrorCode::kOutOfRange, "id " + std::to_string(value(ids[i])) + " at position " +
                                              std::to_string(i) + " is outside the table of " +
                                              std::to_string(parts_.ids()) + " rows");
    if (parts_.is_local(ids[i])) {
      batch->places[i] = static_cast<std::uint32_t>(parts_.row_of(ids[i], parts_.local()));
    } else {
      batch->places[i] = Minibatch::kRemote;  // the ledger numbers the distinct rows
      remote.push_back(ids[i]);
    }
  }
  return batch;
}

Seq Prefetcher::submit(std::span<const NodeId> ids, std::size_t waiting_bytes) {
  std::vector<NodeId> remote;
  const BatchPtr batch = split(ids, remote);
  batch->waiting_bytes = waiting_bytes;
  const std::lock_guard lock(mutex_);
  check_open();
  batch->seq = next_seq_++;
  batches_.emplace(batch->seq, batch);
  queued_rows_ += remote.size();
  ++waiting_minibatches_;
  waiting_bytes_ += waiting_bytes;
  commands_.emplace_back([this, batch, remote = std::move(remote)] {
    std::vector<std::uint32_t> numbers(remote.size());
    note("foresee", batch->seq, remote);
    [[maybe_unused]] const Seq seq = ledger_.foresee(remote, numbers);
    assert(seq == batch->seq);
    batch->number(numbers);
    unplanned_.push_back(batch);
    foreseen_ += remote.size();
    plan();  // before the next minibatch is looked at: the fetch starts as early as it can
  });
  changed_.notify_all();
  return batch->seq;
}

bool Prefetcher::wait_room(std::chrono::nanoseconds timeout) {
  std::unique_lock lock(mutex_);
  const bool room = changed_.wait_for(lock, timeout, [this] {
    return closed_ || waiting_minibatches_ == 0 || queued_rows_ + published_.window_rows < window_rows_;
  });
  check_open();
  return room;
}

Prefetcher::BatchPtr Prefetcher::find_batch(Seq seq) const {
  check_open();
  const auto it = batches_.find(seq);
  if (it == batches_.end())
    throw Error(ErrorCode::kState, "minibatch " + std::to_string(seq) +
                                       " is not waiting: it was released, dropped or never submitted");
  return it->second;
}

void Prefetcher::wait_ready(std::unique_lock<std::mutex>& lock, const Minibatch& batch,
                            std::optional<Clock::time_point> until, const Poll& poll) {
  const auto began = Clock::now();
  const auto woken = [&] { return closed_ || batch.ready(); };
  bool in_time = true;
  while (!woken() && in_time) {
    if (poll) {
      const auto look = Clock::now() + kPollEvery;
      if (!changed_.wait_until(lock, until ? std::min(look, *until) : look, woken)) {
        lock.unlock();
        poll();
        lock.lock();
      }
      in_time = !until || Clock::now() < *until;
    } else if (until) {
      in_time = changed_.wait_until(lock, *until, woken);
    } else {
      changed_.wait(lock, woken);
    }
  }
  seconds_stalled_ += std::chrono::duration<double>(Clock::now() - began).count();
  check_open();
  if (!batch.ready())
    throw Error(ErrorCode::kDeadline, "the rows of minibatch " + std::to_string(batch.seq) +
                                          " did not arrive within the time given");
  if (batch.error) batch.error->raise();
}

void Prefetcher::take(Seq seq, std::chrono::nanoseconds timeout, const Poll& poll) {
  // A timeout beyond the clock's range means "as long as it takes"; the engine's deadline still ends it.
  hold_back();
  std::optional<Clock::time_point> until;
  if (const auto now = Clock::now(); timeout < Clock::time_point::max() - now) until = now + timeout;
  std::unique_lock lock(mutex_);
  const BatchPtr batch = find_batch(seq);
  asked_for_ = std::max(asked_for_, seq);
  commands_.emplace_back([this, seq] {
    taken_ = std::max(taken_, seq);
    released_upto(seq - 1);
    if (const auto planned = planned_.find(seq); planned != planned_.end()) retry(planned->second);
    plan();
  });
  changed_.notify_all();
  wait_ready(lock, *batch, until, poll);
}

// Each minibatch that is taken lets another one in, whatever is staged: else one that is large would never
// come. So a trainer that never waits for its GPU would fill the memory with rows that the GPU has yet to
// read.
void Prefetcher::hold_back() {
  while (gpu_ && store_.staging_bytes() > staging_bytes_) {
    const cuda::CopyPtr oldest = copies_.oldest();
    if (!oldest) return;
    if (!oldest->wait()) throw Error(ErrorCode::kDevice, "the GPU does not tell how far it is");
    post_and_wait([] {});  // what it read is given up
  }
}

void Prefetcher::check_bytes(const Minibatch& batch, std::size_t bytes) const {
  const std::size_t wanted = batch.places.size() * row_bytes_;
  if (bytes != wanted)
    throw Error(ErrorCode::kConfig, "the destination has " + std::to_string(bytes) + " bytes; " +
                                        std::to_string(batch.places.size()) + " rows need " +
                                        std::to_string(wanted));
}

void Prefetcher::check_gpu() const {
  if (!gpu_) throw Error(ErrorCode::kConfig, "no GPU was given when this prefetcher was made");
}

void Prefetcher::copy(std::unique_lock<std::mutex>& lock, Minibatch& batch, std::span<std::byte> out) {
  // Taken before the mutex is given up: an invalidation that comes now waits until the copy is done.
  const std::shared_lock still(batch.moving);
  lock.unlock();
  batch.copy(local_rows_, row_bytes_, out.data(), pool_);
}

void Prefetcher::copy(std::unique_lock<std::mutex>& lock, Minibatch& batch, const DeviceOut& out) {
  // An invalidation may come before the GPU is done: the rows it reads stay until then, as they were.
  const std::shared_lock still(batch.moving);
  lock.unlock();
  if (batch.places.empty()) return;
  std::vector<const std::byte*> from(batch.places.size());
  batch.sources(local_rows_, row_bytes_, from, pool_);
  const cuda::CopyPtr copy = gpu_->gather(from, row_bytes_, out.data, out.stream, pool_);
  batch.copies.add(copy);
  copies_.add(copy);
}

template <typename Out>
void Prefetcher::gather_into(Seq seq, const Out& out, const Poll& poll) {
  std::unique_lock lock(mutex_);
  const BatchPtr batch = find_batch(seq);
  if (seq > asked_for_)
    throw Error(ErrorCode::kState,
                "minibatch " + std::to_string(seq) + " must be taken before its rows are gathered");
  check_bytes(*batch, size_of(out));
  wait_ready(lock, *batch, std::nullopt, poll);
  copy(lock, *batch, out);
}

void Prefetcher::gather(Seq seq, std::span<std::byte> out, const Poll& poll) { gather_into(seq, out, poll); }

void Prefetcher::gather(Seq seq, const DeviceOut& out, const Poll& poll) {
  check_gpu();
  gather_into(seq, out, poll);
}

void Prefetcher::release(Seq seq) {
  post([this, seq] {
    taken_ = std::max(taken_, seq);
    released_upto(seq);
    plan();
  });
}

void Prefetcher::read(std::span<const NodeId> ids, std::span<std::byte> out, const Poll& poll) {
  read_into(ids, out, poll);
}

void Prefetcher::read(std::span<const NodeId> ids, const DeviceOut& out, const Poll& poll) {
  check_gpu();
  hold_back();
  read_into(ids, out, poll);
}

template <typename Out>
void Prefetcher::read_into(std::span<const NodeId> ids, const Out& out, const Poll& poll) {
  std::vector<NodeId> remote;
  const BatchPtr batch = split(ids, remote);
  check_bytes(*batch, size_of(out));
  std::unique_lock lock(mutex_);
  check_open();
  if (remote.empty()) {
    batch->planned = true;
  } else {
    commands_.emplace_back([this, batch, remote = std::move(remote)] {
      std::vector<std::uint32_t> numbers(remote.size());
      note("read", 0, remote);
      const Verdict& verdict = ledger_.execute_now(remote, numbers);
      batch->number(numbers);
      count_.rows_read_unplanned += verdict.rows.size();
      admit(batch, verdict);
    });
    changed_.notify_all();
  }
  // Whatever happens, the slots that it reads are given back.
  const auto give_back = [this, batch] { post([this, batch] { done_reading(batch); }); };
  try {
    wait_ready(lock, *batch, std::nullopt, poll);
    copy(lock, *batch, out);
  } catch (...) {
    if (lock.owns_lock()) lock.unlock();
    give_back();
    throw;
  }
  give_back();
}

std::size_t Prefetcher::drop_pending() {
  const auto dropped = std::make_shared<std::size_t>(0);
  post_and_wait([this, dropped] {
    note("drop", static_cast<std::uint64_t>(std::distance(planned_.upper_bound(taken_), planned_.end())));
    ledger_.drop_pending();
    const auto dropped_minibatch =
        std::make_shared<const Failure>(Failure{ErrorCode::kState, "the minibatch was dropped", -1, {}, {}});
    const std::size_t unplanned = unplanned_.size();
    unplanned_.clear();
    for (auto it = planned_.upper_bound(taken_); it != planned_.end(); it = planned_.erase(it))
      take_back(*it->second);
    const std::lock_guard lock(mutex_);
    waiting_minibatches_ -= unplanned;
    for (auto it = batches_.upper_bound(taken_); it != batches_.end(); it = batches_.erase(it)) {
      waiting_bytes_ -= it->second->waiting_bytes;
      it->second->error = dropped_minibatch;
      ++*dropped;
    }
  });
  return *dropped;
}

void Prefetcher::invalidate(std::optional<std::span<const NodeId>> ids) {
  std::vector<NodeId> remote;
  if (ids) split(*ids, remote);
  post_and_wait([this, all = !ids, remote = std::move(remote)] {
    std::vector<NodeId> stale = all ? ledger_.tracked_ids() : remote;
    // Rows that only minibatches on their way still hold: an earlier invalidation may have untracked them.
    if (all)
      for (const auto& [seq, batch] : planned_)
        stale.insert(stale.end(), batch->ids.begin(), batch->ids.end());
    const std::uint64_t refetched = count_.rows_refetched;
    invalidate_now(stale);
    note("invalidate", count_.rows_refetched - refetched, stale);
  });
}

void Prefetcher::steer(const Steering& steering) {
  const std::size_t slots = store_.buffer().slots();
  if (steering.capacity_rows && *steering.capacity_rows > slots)
    throw Error(ErrorCode::kConfig, "the buffer was built for " + std::to_string(slots) +
                                        " rows; its capacity can't be raised to " +
                                        std::to_string(*steering.capacity_rows));
  if (steering.device_rows && *steering.device_rows > 0) check_gpu();
  if (steering.depth && *steering.depth < 1)
    throw Error(ErrorCode::kConfig, "the fetch depth must be at least 1 minibatch");
  post_and_wait([this, steering] { steer_now(steering); });
}

Counters Prefetcher::counters() const {
  const std::lock_guard lock(mutex_);
  Counters counters = published_;
  if (fetching_since_)
    counters.seconds_fetching += std::chrono::duration<double>(Clock::now() - *fetching_since_).count();
  counters.seconds_stalled = seconds_stalled_;
  counters.waiting_bytes = waiting_bytes_;
  return counters;
}

std::vector<LedgerCall> Prefetcher::drain_record() {
  const std::lock_guard lock(mutex_);
  return std::exchange(record_, {});
}

void Prefetcher::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  engine_->close();  // no destination is written after this
  const std::lock_guard lock(joining_);
  if (owner_.joinable()) owner_.join();
  // A fetch under way and the minibatches that wait for it hold each other.
  for (const auto& [id, staged] : fetching_) staged->waiters.clear();
  fetching_.clear();
  {
    const std::lock_guard again(mutex_);
    end_fetching();
    published_.seconds_fetching = count_.seconds_fetching;
  }
  copies_.wait();
  if (gpu_) gpu_->trim();
}

}  // namespace rudder
