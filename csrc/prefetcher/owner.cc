// The owner thread's half of the prefetcher: all that changes metadata.
#include <algorithm>
#include <unordered_set>
#include <utility>

#include "prefetcher/prefetcher.h"

namespace rudder {

void Prefetcher::own() {
  std::deque<std::function<void()>> commands;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || !commands_.empty(); });
      if (closed_) return;
      commands.swap(commands_);
    }
    try {
      for (auto& command : commands) command();
      commands.clear();
      if (gpu_) settle();
      publish();
    } catch (...) {
      // Metadata may be half changed: nothing can be promised any more, but nobody is left waiting either.
      const FailurePtr failure = Failure::current();
      const std::lock_guard lock(mutex_);
      fatal_ = failure;
      closed_ = true;
      changed_.notify_all();
      return;
    }
  }
}

void Prefetcher::plan() {
  while (!unplanned_.empty()) {
    // Fetched or being fetched, and not yet in use.
    const auto ahead = static_cast<std::size_t>(std::distance(planned_.upper_bound(taken_), planned_.end()));
    if (ahead >= depth_) return;
    if (store_.staging_bytes() >= staging_bytes_) unstage_used();
    if (ahead > 0 && store_.staging_bytes() >= staging_bytes_) return;
    const BatchPtr batch = std::move(unplanned_.front());
    unplanned_.pop_front();
    planned_.emplace(batch->seq, batch);
    note("execute", batch->seq);
    const Verdict& verdict = ledger_.execute();
    ++count_.minibatches;
    count_.ids_requested += batch->places.size();
    admit(batch, verdict);
    store_.unstage_before(ledger_.staged_from());
    const std::lock_guard lock(mutex_);
    --waiting_minibatches_;
  }
}

// Rows of minibatches in use or done may serve again for as long as the depth says; where room is short, rows
// that wait for their minibatch come first. Bytes in use stay until their minibatch is released.
void Prefetcher::unstage_used() {
  if (ledger_.staged_from() > taken_) return;
  note("unstage", taken_);
  ledger_.unstage(taken_);
  store_.unstage_before(ledger_.staged_from());
}

void Prefetcher::admit(const BatchPtr& batch, const Verdict& verdict) {
  RowStore::Order order = store_.place(*batch, verdict, ledger_);
  batch->hits = verdict.hits;
  batch->merged = verdict.merged;
  batch->misses = verdict.misses;
  count_.rows_hit_on_device += batch->hits_on_device;
  count_.rows_requested += verdict.rows.size();
  count_.rows_hit += verdict.hits;
  count_.rows_merged += verdict.merged;
  count_.rows_moved += verdict.misses + verdict.replaced.size();
  count_.rows_replaced += verdict.replaced.size();
  count_.rows_evicted += verdict.evicted.size();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& staged : batch->holds)
      if (!staged->done) {
        staged->waiters.push_back(batch);
        ++batch->waits;
      }
    batch->planned = true;
    published_ = count_;  // whoever wakes up finds its minibatch counted
    changed_.notify_all();
  }
  start(std::move(order));
}

void Prefetcher::start(RowStore::Order order) {
  if (!order.staged) return;
  if (fetching_.empty()) {
    const std::lock_guard lock(mutex_);
    fetching_since_ = Clock::now();
  }
  const FetchEngine::FetchId id = next_fetch_++;
  fetching_.emplace(id, std::move(order.staged));
  count_.staging_bytes_peak = std::max(count_.staging_bytes_peak, store_.staging_bytes());
  engine_->fetch(id, std::move(order.gathers));
}

void Prefetcher::on_fetched(FetchEngine::FetchId id, const FailurePtr& error) {
  const auto node = fetching_.extract(id);
  Staged& staged = *node.mapped();
  if (error) {
    ++count_.fetches_failed;
    store_.failed(staged, ledger_);
  } else {
    store_.arrived(staged);
    store_.fill(released_);
  }
  const std::lock_guard lock(mutex_);
  if (fetching_.empty()) end_fetching();
  for (const BatchPtr& batch : std::exchange(staged.waiters, {})) {
    if (error && batch->seq > taken_) {
      batch->failed.push_back(staged.shared_from_this());  // still waited for: see retry()
      continue;
    }
    --batch->waits;
    if (error && !batch->error) batch->error = error;
  }
  published_ = count_;
  changed_.notify_all();
}

void Prefetcher::released_upto(Seq seq) {
  release_asked_ = std::max(release_asked_, seq);
  seq = release_asked_;
  for (auto it = planned_.begin(); it != planned_.end() && it->first <= seq; ++it)
    if (!it->second->copies.over()) seq = it->first - 1;  // a GPU still reads it, and those after it wait
  if (seq <= released_) return;
  released_ = seq;
  planned_.erase(planned_.begin(), planned_.upper_bound(seq));
  {
    const std::lock_guard lock(mutex_);
    for (auto it = batches_.begin(); it != batches_.end() && it->first <= seq; it = batches_.erase(it))
      waiting_bytes_ -= it->second->waiting_bytes;
  }
  store_.fill(released_);
  store_.trim(staging_bytes_);
}

void Prefetcher::done_reading(const BatchPtr& batch) {
  if (!batch->copies.over()) {
    reading_.push_back(batch);
    return;
  }
  store_.unpin(*batch);
  store_.fill(released_);
}

// What the GPU got done since the last look. Nobody wakes this thread for it, and nobody needs to: what waits
// here is memory, and whoever wants some sends a command.
void Prefetcher::settle() {
  for (const BatchPtr& batch : std::exchange(reading_, {})) done_reading(batch);
  const Seq before = released_;
  released_upto(release_asked_);
  if (released_ != before) plan();
  store_.advance(released_, pool_);
}

void Prefetcher::set_device_rows(std::size_t rows) {
  // No more than the buffer has, and than the GPU has memory for.
  ledger_.set_tier(store_.set_device_rows(std::min(rows, store_.buffer().slots())));
  store_.lower(ledger_.lowered());
}

void Prefetcher::invalidate_now(std::span<const NodeId> ids) {
  for (const NodeId id : ids) {
    const RowKey row = ledger_.invalidate(id);
    if (row != kNoRow) store_.remove({&row, 1});
  }
  // Minibatches that are planned already would read what was fetched before the write.
  const std::unordered_set<NodeId> stale(ids.begin(), ids.end());
  for (const auto& [seq, batch] : planned_) {
    std::vector<std::size_t> rows;
    for (std::size_t row = 0; row < batch->ids.size(); ++row)
      if (stale.contains(batch->ids[row])) rows.push_back(row);
    if (!rows.empty()) refetch(batch, rows, 0);
  }
}

// Nobody waited for the rows when their fetch failed, so nobody was told. A peer that was slow or away (at a
// barrier, or restarted) deserves a second attempt now that they are needed; only this one's failure is the
// trainer's.
void Prefetcher::retry(const BatchPtr& batch) {
  if (batch->failed.empty()) return;
  std::vector<std::size_t> rows;
  for (std::size_t row = 0; row < batch->where.size(); ++row)
    for (const auto& staged : batch->failed)
      if (staged->holds(batch->where[row])) rows.push_back(row);
  const std::size_t settled = batch->failed.size();
  batch->failed.clear();
  refetch(batch, rows, settled);
}

// Fetches these rows of a placed minibatch again; `settled` of the fetches that it waits for are replaced by
// this one.
void Prefetcher::refetch(const BatchPtr& batch, std::span<const std::size_t> rows, std::size_t settled) {
  RowStore::Order order;
  {
    const std::lock_guard lock(mutex_);
    const std::unique_lock moving(batch->moving);
    order = store_.replace(*batch, rows);
    batch->waits -= settled;
    if (order.staged) {
      order.staged->waiters.push_back(batch);
      ++batch->waits;
    }
    changed_.notify_all();
  }
  count_.rows_refetched += rows.size();
  count_.rows_moved += rows.size();
  start(std::move(order));
}

// A minibatch that was planned and then dropped asked for nothing; what it fetched was still moved.
void Prefetcher::take_back(const Minibatch& batch) {
  --count_.minibatches;
  count_.ids_requested -= batch.places.size();
  count_.rows_requested -= batch.ids.size();
  count_.rows_hit -= batch.hits;
  count_.rows_hit_on_device -= batch.hits_on_device;
  count_.rows_merged -= batch.merged;
  count_.rows_wasted += batch.misses;
}

void Prefetcher::steer_now(const Steering& steering) {
  if (steering.capacity_rows && *steering.capacity_rows != ledger_.policy().capacity()) {
    note("capacity", *steering.capacity_rows);
    ledger_.set_capacity(*steering.capacity_rows);
    store_.remove(ledger_.evicted());
    store_.set_capacity(*steering.capacity_rows);
    store_.fill(released_);
    count_.rows_evicted += ledger_.evicted().size();
  }
  if (steering.device_rows && gpu_) set_device_rows(*steering.device_rows);
  if (steering.depth && *steering.depth != depth_) {
    note("depth", *steering.depth);
    depth_ = *steering.depth;
    ledger_.set_depth(depth_);
  }
  if (steering.prior) {
    note("prior", 0);
    ledger_.set_prior(Prior::without(steering.prior, parts_.local_begin(), parts_.local_end()));
  }
  if (steering.fraction && *steering.fraction != fraction_) {
    note("fraction", *steering.fraction);
    fraction_ = *steering.fraction;
    ledger_.limit_replacement(fraction_);
  }
  if (steering.replace) {
    note("replace", *steering.replace ? 1 : 0);
    ledger_.allow_replacement(*steering.replace);
  }
  if (steering.observe) {
    note("observe", *steering.observe);
    ledger_.observe(*steering.observe);
  }
  if (steering.staging_bytes) staging_bytes_ = *steering.staging_bytes;
  if (steering.window_rows) {
    const std::lock_guard lock(mutex_);
    window_rows_ = *steering.window_rows;
  }
  plan();
}

void Prefetcher::end_fetching() {
  if (!fetching_since_) return;
  count_.seconds_fetching += std::chrono::duration<double>(Clock::now() - *fetching_since_).count();
  fetching_since_.reset();
}

void Prefetcher::note(std::string_view call, std::uint64_t number, std::span<const NodeId> ids) {
  if (!recording_) return;
  const std::lock_guard lock(mutex_);
  record_.push_back({call, number, {ids.begin(), ids.end()}});
}

void Prefetcher::publish() {
  count_.capacity_rows = ledger_.policy().capacity();
  count_.cached_rows = ledger_.policy().size();
  count_.held_rows = store_.buffer().held();
  count_.window_rows = ledger_.window().rows();
  count_.window_minibatches = ledger_.window().minibatches();
  count_.overhead_bytes = store_.overhead_bytes();
  count_.window_bytes = ledger_.bytes();
  for (const BatchPtr& batch : unplanned_)
    count_.window_bytes += batch->places.capacity() * sizeof(batch->places[0]);
  count_.staging_bytes_now = store_.staging_bytes();
  count_.device_rows = store_.device_rows();
  count_.device_bytes = store_.device_bytes();
  count_.promotions_refused = store_.promotions_refused();
  if (gpu_) {
    count_.upload_bytes = gpu_->upload_bytes();
    count_.upload_device_bytes = gpu_->upload_device_bytes();
  }
  const std::lock_guard lock(mutex_);
  queued_rows_ -= std::exchange(foreseen_, 0);
  published_ = count_;
  changed_.notify_all();
}

}  // namespace rudder
