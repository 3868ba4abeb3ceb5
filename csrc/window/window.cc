#include "window/window.h"

namespace rudder {

std::uint32_t Window::add(RowKey row) {
  const auto now = static_cast<std::uint32_t>(end_);
  Uses& uses = uses_[row];
  if (uses.pending != 0) {
    if (uses.last == now) return uses.last_at;
    // expand() counts back from end_, and every pending minibatch lies within the deque.
    Pending& earlier = pending_[expand(uses.last) - begin()];
    earlier.ahead[uses.last_at] = now - uses.last;
  } else {
    uses.first = now;
    first_needed_.push_back(row);
  }
  ++uses.pending;
  uses.last = now;
  uses.last_at = static_cast<std::uint32_t>(building_.rows.size());
  building_.rows.push_back(row);
  return uses.last_at;
}

Seq Window::commit() {
  building_.rows.shrink_to_fit();
  building_.ahead.assign(building_.rows.size(), 0);
  rows_ += building_.rows.size();
  pending_.push_back(std::move(building_));
  building_ = Pending{};
  return end_++;
}

void Window::pop(Minibatch& out) {
  Pending& batch = pending_.front();
  out.seq = begin();
  out.rows = std::move(batch.rows);
  out.next_use.resize(out.rows.size());
  for (std::size_t i = 0; i < out.rows.size(); ++i) {
    Uses& uses = uses_[out.rows[i]];
    const std::uint32_t ahead = batch.ahead[i];
    --uses.pending;
    uses.first += ahead;
    out.next_use[i] = ahead == 0 ? kNoUse : out.seq + ahead;
  }
  rows_ -= out.rows.size();
  pending_.pop_front();
}

std::size_t Window::bytes() const {
  return rows_ * (sizeof(RowKey) + sizeof(std::uint32_t)) + uses_.capacity() * sizeof(Uses);
}

}  // namespace rudder
