#include "transport/ucx/gather_pool.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "transport/row_copy.h"

namespace rudder::ucx {

GatherPool::GatherPool(std::size_t threads, std::size_t staging_bytes, std::size_t chunk_bytes,
                       std::function<void()> on_done)
    : chunk_bytes_(chunk_bytes), on_done_(std::move(on_done)) {
  if (threads == 0) throw Error(ErrorCode::kConfig, "a feature server needs at least one gathering thread");
  if (chunk_bytes == 0 || staging_bytes < 2 * chunk_bytes)
    throw Error(ErrorCode::kConfig, "staging of " + std::to_string(staging_bytes) +
                                        " bytes cannot hold two chunks of " + std::to_string(chunk_bytes));
  chunks_ = staging_bytes / chunk_bytes;
  memory_ = Arena(chunks_ * chunk_bytes);
  for (std::size_t i = chunks_; i-- > 0;) free_.push_back(memory_.data() + i * chunk_bytes);
  for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

GatherPool::~GatherPool() { stop(); }

void GatherPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void GatherPool::open(std::uint64_t session) {
  const std::lock_guard lock(mutex_);
  queues_[session].open = true;
}

void GatherPool::add(GatherJob job) {
  {
    const std::lock_guard lock(mutex_);
    queued_rows_ += job.gather.rows.size();
    queues_.at(job.session).jobs.push_back(std::move(job));
  }
  wake_.notify_one();
}

std::size_t GatherPool::queued(std::uint64_t session) const {
  const std::lock_guard lock(mutex_);
  const auto it = queues_.find(session);
  return it == queues_.end() ? 0 : it->second.jobs.size();
}

std::size_t GatherPool::queued_rows() const {
  const std::lock_guard lock(mutex_);
  return queued_rows_;
}

void GatherPool::drop(std::uint64_t session) {
  {
    const std::lock_guard lock(mutex_);
    const auto it = queues_.find(session);
    if (it == queues_.end()) return;
    it->second.open = false;
    for (const GatherJob& job : it->second.jobs) queued_rows_ -= job.gather.rows.size();
    it->second.jobs.clear();
    forget_if_done(it);
  }
  wake_.notify_all();  // the others' shares have grown
}

std::vector<GatherJob> GatherPool::take_done() {
  const std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

void GatherPool::give_back(const GatherJob& job) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(job.gather.out);
    const auto it = queues_.find(job.session);
    --it->second.chunks;
    forget_if_done(it);
  }
  wake_.notify_one();
}

std::size_t GatherPool::chunks_in_use() const {
  const std::lock_guard lock(mutex_);
  return chunks_ - free_.size();
}

void GatherPool::forget_if_done(std::map<std::uint64_t, Queue>::iterator queue) {
  if (!queue->second.open && queue->second.chunks == 0) queues_.erase(queue);
}

std::map<std::uint64_t, GatherPool::Queue>::iterator GatherPool::next() {
  if (free_.empty()) return queues_.end();
  // Half at most: what one session holds and does not take must leave room for those who come later.
  const std::size_t share = std::max<std::size_t>(1, chunks_ / std::max<std::size_t>(2, queues_.size()));
  const auto ready = [&](const auto& entry) {
    return !entry.second.jobs.empty() && entry.second.chunks < share;
  };
  // Round about, from the one after the last served.
  const auto start = queues_.upper_bound(last_served_);
  auto found = std::find_if(start, queues_.end(), ready);
  if (found != queues_.end()) return found;
  found = std::find_if(queues_.begin(), start, ready);
  return found == start ? queues_.end() : found;
}

void GatherPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    auto queue = queues_.end();
    wake_.wait(lock, [&] {
      if (stop_) return true;
      queue = queues_.empty() ? queues_.end() : next();
      return queue != queues_.end();
    });
    if (stop_) return;
    last_served_ = queue->first;
    GatherJob job = std::move(queue->second.jobs.front());
    queue->second.jobs.pop_front();
    queued_rows_ -= job.gather.rows.size();
    ++queue->second.chunks;
    job.gather.out = free_.back();
    free_.pop_back();
    lock.unlock();
    job.error = copy_rows(job.region->rows, job.region->count, job.gather);
    lock.lock();
    done_.push_back(std::move(job));
    if (done_.size() == 1) {
      lock.unlock();
      on_done_();
      lock.lock();
    }
  }
}

}  // namespace rudder::ucx
