#include "transport/loopback.h"

#include <algorithm>

#include "common/error.h"
#include "transport/row_copy.h"

namespace rudder {

Loopback::Loopback() = default;

Loopback::~Loopback() { close(); }

void Loopback::expose(PartId peer, TableId table, const std::byte* rows, std::size_t count,
                      std::size_t row_bytes) {
  if (row_bytes == 0) throw Error(ErrorCode::kConfig, "rows must have at least one byte");
  const std::lock_guard lock(mutex_);
  tables_[{peer, table}] = Table{rows, count, row_bytes};
}

void Loopback::inject(Faults faults) {
  const std::lock_guard lock(mutex_);
  faults_ = std::move(faults);
}

Transport::Reach Loopback::reach_locked(PartId peer, TableId table, std::size_t row_bytes) const {
  const auto it = tables_.find({peer, table});
  if (it == tables_.end())
    return {false, "partition " + std::to_string(value(peer)) + " exposes no such table"};
  if (it->second.row_bytes != row_bytes)
    return {false, "rows of " + std::to_string(it->second.row_bytes) + " bytes there, " +
                       std::to_string(row_bytes) + " here"};
  return {};
}

Transport::Reach Loopback::reach(PartId peer, TableId table, std::size_t row_bytes) const {
  const std::lock_guard lock(mutex_);
  return reach_locked(peer, table, row_bytes);
}

std::string Loopback::copy(const std::vector<Gather>& gathers) const {
  for (const Gather& gather : gathers) {
    const Reach way = reach_locked(gather.peer, gather.table, gather.row_bytes);
    if (!way.possible) return way.why_not;
    const Table& table = tables_.at({gather.peer, gather.table});
    if (std::string why = copy_rows(table.rows, table.count, gather); !why.empty()) return why;
  }
  return {};
}

void Loopback::submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) {
  std::string why;
  {
    const std::lock_guard lock(mutex_);
    const bool faulty = faults_.after == 0;
    if (!faulty) --faults_.after;
    if (closed_) {
      why = "the loopback transport is closed";
    } else if (faulty && !faults_.fail.empty()) {
      why = faults_.fail;
    } else if (faulty && (faults_.stall || faults_.delay.count() > 0)) {
      const auto due = faults_.stall ? Clock::time_point::max() : Clock::now() + faults_.delay;
      delayed_.emplace(ticket, Delayed{due, std::move(gathers), std::move(sink)});
      if (!clock_.joinable()) clock_ = std::thread([this] { deliver_delayed(); });
      changed_.notify_all();
      return;
    } else {
      why = copy(gathers);
    }
  }
  sink->complete({ticket, why.empty() ? CompletionStatus::kDone : CompletionStatus::kFailed, std::move(why)});
}

void Loopback::deliver_delayed() {
  std::unique_lock lock(mutex_);
  while (!closed_) {
    const auto first = std::min_element(delayed_.begin(), delayed_.end(), [](const auto& a, const auto& b) {
      return a.second.due < b.second.due;
    });
    if (first == delayed_.end() || first->second.due == Clock::time_point::max()) {
      changed_.wait(lock);
    } else if (Clock::now() < first->second.due) {
      const auto due = first->second.due;  // the entry may be cancelled while waiting
      changed_.wait_until(lock, due);
    } else {
      const Ticket ticket = first->first;
      const Delayed delayed = std::move(first->second);
      delayed_.erase(first);
      std::string why = copy(delayed.gathers);
      delayed.sink->complete(
          {ticket, why.empty() ? CompletionStatus::kDone : CompletionStatus::kFailed, std::move(why)});
    }
  }
}

void Loopback::cancel(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  delayed_.erase(ticket);
  changed_.notify_all();
}

void Loopback::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    delayed_.clear();
  }
  changed_.notify_all();
  if (clock_.joinable()) clock_.join();
}

}  // namespace rudder
