#include "policy/lookahead.h"

#include <algorithm>
#include <array>
#include <bit>

namespace rudder {
namespace {

constexpr std::uint32_t kPriorLists = Prior::kLevels;
// Rows ahead of the one being relinked; its node and its list neighbours are two dependent cache misses.
constexpr std::size_t kPrefetchAhead = 12;

class Lookahead final : public Policy {
 public:
  explicit Lookahead(const PolicyConfig& config) : capacity_(config.capacity), prior_(config.prior) {
    lists_.resize(kPriorLists + kFirstRing);
  }

  std::string_view name() const override { return "lookahead"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Lookahead>(*this); }

  void reserve(std::size_t keys) override {
    if (keys > nodes_.size()) nodes_.resize(keys);
  }

  void foresee(std::span<const RowKey> rows, Seq use) override {
    grow_ring(use);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (i + kPrefetchAhead < rows.size()) __builtin_prefetch(&nodes_[rows[i + kPrefetchAhead]], 1);
      Node& node = nodes_[rows[i]];
      if (node.state != State::kOut) {
        unlink(node);
        link(rows[i], use);
      }
    }
  }

  void forget_window() override {
    for (std::uint32_t list = kPriorLists; list < lists_.size(); ++list)
      while (lists_[list].head != kNoRow) {
        const RowKey row = lists_[list].head;
        unlink(nodes_[row]);
        link(row, kNoUse);
      }
  }

  void execute(const Step& step, Outcome& out) override {
    const std::size_t n = step.rows.size();
    out.reset(n);
    now_ = step.seq;
    // Every row of this minibatch's list is in the minibatch: drop the list at once instead of unlinking row
    // by row.
    const std::uint32_t due = list_of(step.seq);
    lists_[due] = List{};
    // On paper: every hit moves to its next use, every miss is inserted.
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kPrefetchAhead < n) __builtin_prefetch(&nodes_[step.rows[i + kPrefetchAhead]], 1);
      Node& node = nodes_[step.rows[i]];
      if (node.state == State::kIn) {
        out.hit[i] = 1;
        if (node.list != due) unlink(node);
      } else {
        node.state = State::kFresh;
        node.level = prior_ ? prior_->level(step.ids[i]) : 0;
        ++size_;
      }
      if (step.next_use[i] != kNoUse) grow_ring(step.next_use[i]);
      link(step.rows[i], step.next_use[i]);
    }
    shrink_to(capacity_, out.evicted);
    for (std::size_t i = 0; i < n; ++i) {
      Node& node = nodes_[step.rows[i]];
      if (node.state == State::kFresh) {
        node.state = State::kIn;
        out.keep[i] = 1;
      }
    }
  }

  bool cached(RowKey row) const override { return row < nodes_.size() && nodes_[row].state == State::kIn; }

  void erase(RowKey row) override {
    unlink(nodes_[row]);
    nodes_[row].state = State::kOut;
    --size_;
  }

  void set_capacity(std::size_t rows, std::vector<RowKey>& evicted) override {
    capacity_ = rows;
    shrink_to(rows, evicted);
  }

  void set_prior(std::shared_ptr<const Prior> prior, std::span<const NodeId> ids) override {
    prior_ = std::move(prior);
    for (RowKey row = 0; row < nodes_.size(); ++row) {
      Node& node = nodes_[row];
      if (node.state == State::kOut) continue;
      const bool beyond = node.list < kPriorLists;
      if (beyond) unlink(node);
      node.level = prior_ ? prior_->level(ids[row]) : 0;
      if (beyond) link(row, kNoUse);
    }
  }

  std::size_t size() const override { return size_; }
  std::size_t capacity() const override { return capacity_; }

 private:
  // kFresh: inserted on paper by the step being executed.
  enum class State : std::uint8_t { kOut, kFresh, kIn };

  struct Node {
    RowKey prev = kNoRow, next = kNoRow;
    std::uint32_t list = 0;
    State state = State::kOut;
    std::uint8_t level = 0;
  };
  struct List {
    RowKey head = kNoRow, tail = kNoRow;
  };

  // Lists of the window are a ring by minibatch number; it doubles as the window grows.
  static constexpr std::uint32_t kFirstRing = 64;
  std::uint32_t ring() const { return static_cast<std::uint32_t>(lists_.size()) - kPriorLists; }
  std::uint32_t list_of(Seq use) const {
    return kPriorLists + static_cast<std::uint32_t>(use & (ring() - 1));
  }

  void grow_ring(Seq use) {
    // Uses lie in (now_, use]; while now_ is behind the window's begin this only rounds up.
    if (use - std::min(use, now_) < ring()) {
      farthest_ = std::max(farthest_, use);
      return;
    }
    std::vector<List> old(lists_.begin() + kPriorLists, lists_.end());
    const std::uint32_t old_ring = ring();
    std::uint32_t wanted = old_ring;
    while (use - std::min(use, now_) >= wanted) wanted *= 2;
    lists_.resize(kPriorLists + wanted);
    std::fill(lists_.begin() + kPriorLists, lists_.end(), List{});
    for (Seq seq = now_; seq <= farthest_ && seq < now_ + old_ring; ++seq) {
      const List& list = old[seq & (old_ring - 1)];
      lists_[list_of(seq)] = list;
      for (RowKey row = list.head; row != kNoRow; row = nodes_[row].next) nodes_[row].list = list_of(seq);
    }
    farthest_ = std::max(farthest_, use);
  }

  void link(RowKey row, Seq use) {
    Node& node = nodes_[row];
    if (use == kNoUse) {
      node.list = node.level;
      some_[node.level / 64] |= 1ull << (node.level % 64);
    } else {
      node.list = list_of(use);
    }
    List& list = lists_[node.list];
    node.prev = list.tail;
    node.next = kNoRow;
    (list.tail == kNoRow ? list.head : nodes_[list.tail].next) = row;
    list.tail = row;
  }

  void unlink(Node& node) {
    List& list = lists_[node.list];
    (node.prev == kNoRow ? list.head : nodes_[node.prev].next) = node.next;
    (node.next == kNoRow ? list.tail : nodes_[node.next].prev) = node.prev;
    if (node.list < kPriorLists && list.head == kNoRow) some_[node.list / 64] &= ~(1ull << (node.list % 64));
  }

  // The row to lose first. REQUIRES size_ > 0.
  RowKey worst() {
    for (std::size_t word = 0; word < some_.size(); ++word)
      if (some_[word] != 0) return lists_[word * 64 + std::countr_zero(some_[word])].head;
    while (lists_[list_of(farthest_)].head == kNoRow) --farthest_;
    return lists_[list_of(farthest_)].head;
  }

  void shrink_to(std::size_t rows, std::vector<RowKey>& evicted) {
    while (size_ > rows) {
      const RowKey row = worst();
      Node& node = nodes_[row];
      unlink(node);
      if (node.state == State::kIn) evicted.push_back(row);
      node.state = State::kOut;
      --size_;
    }
  }

  std::size_t capacity_;
  std::size_t size_ = 0;
  std::shared_ptr<const Prior> prior_;
  std::vector<Node> nodes_;
  std::vector<List> lists_;
  std::array<std::uint64_t, kPriorLists / 64> some_{};  // which prior lists are not empty
  Seq now_ = 0;                                         // the minibatch executed last
  Seq farthest_ = 0;                                    // no row's next use lies beyond
};

}  // namespace

std::unique_ptr<Policy> make_lookahead(const PolicyConfig& config) {
  return std::make_unique<Lookahead>(config);
}

}  // namespace rudder
