#include "shadow/fit.h"

#include <cmath>
#include <numeric>

namespace rudder {
namespace {

constexpr int kRounds = 14;
constexpr double kWidest = 1e4;  // the first guess may be off by so much either way

// Rows that are known already.
class Known final : public Rows {
 public:
  Known(std::int64_t first, std::span<const double> moved) : first_(first), moved_(moved) {}
  void foresee(std::int64_t) override {}
  double execute(std::int64_t minibatch) override {
    return moved_[static_cast<std::size_t>(minibatch - first_)];
  }

 private:
  std::int64_t first_;
  std::span<const double> moved_;
};

}  // namespace

double row_seconds(const Pipeline& begin, Feed& feed, std::span<const double> moved, double fetching,
                   double guess) {
  if (std::accumulate(moved.begin(), moved.end(), 0.0) <= 0 || fetching <= 0) return guess;
  const std::int64_t end = begin.next() + static_cast<std::int64_t>(moved.size());
  double low = guess / kWidest, high = guess * kWidest;
  for (int round = 0; round < kRounds; ++round) {
    const double middle = std::sqrt(low * high);
    feed.cost(begin.next(), end, middle);
    Pipeline pipeline = begin;
    Known rows(begin.next(), moved);
    pipeline.run(feed, rows, end);
    (pipeline.fetching() - begin.fetching() < fetching ? low : high) = middle;
  }
  return std::sqrt(low * high);
}

}  // namespace rudder
