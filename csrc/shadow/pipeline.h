// Modelled time: when each minibatch is sampled, decided on, fetched and trained on, in seconds.
//
// Four stages run beside one another. One thread samples, and stops while the window is full or the waiting
// blocks take all of their memory. Minibatch t is decided on (which rows move) once it is sampled and the
// trainer has begun minibatch t - depth; its rows then queue for one link, and are there a latency after the
// last of them left. The trainer computes one minibatch after the other:
//
//   decided(t) = max(begun(t - depth), decided(t - 1), sampled(t))
//   sent(t)    = max(sent(t - 1), decided(t)) + rows(t) x seconds a row
//   begun(t)   = max(ended(t - 1), sampled(t), sent(t) + latency)
//   ended(t)   = begun(t) + compute(t)
//
// A minibatch enters the window before t is decided on if it was sampled by then, so that how far the
// lookahead reaches follows from the times, as it does live. With depth 0 the fetch starts when the trainer
// asks for it. The model leaves out that stages share cores, that one peer may be slow, and the bound on
// staged bytes.
//
// A copy has the same state and goes on alone. Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shadow/feed.h"

namespace rudder {

// Who says how many rows a minibatch moves.
class Rows {
 public:
  Rows() = default;
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  virtual ~Rows() = default;
  // It entered the window: in order, each once.
  virtual void foresee(std::int64_t minibatch) = 0;
  // Its turn has come: the rows that it moves.
  virtual double execute(std::int64_t minibatch) = 0;
};

class Pipeline {
 public:
  // Minibatches that may wait, whatever the window's rows (as in rudder.lookahead).
  static constexpr std::int64_t kMostWaiting = 256;

  struct Settings {
    std::int64_t depth = 0;
    double window_rows = 0;    // sample ahead until so many requests wait
    double waiting_bytes = 0;  // bound on blocks
  };

  // `first`: the minibatch with which it begins. Throws Error(kConfig) for a depth below 0.
  explicit Pipeline(const Settings& settings, std::int64_t first = 0);

  // New settings from now on, between two minibatches.
  void steer(const Feed& feed, const Settings& settings);
  // The trainer does something else for so long.
  void pause(double seconds) { clock_ += seconds; }
  // What was sampled ahead is forgotten.
  void drop();
  // Goes on until minibatch `end` is next. Throws Error(kOutOfRange) where the feed has not all of them.
  void run(const Feed& feed, Rows& rows, std::int64_t end);

  // When the trainer ended its last minibatch.
  double clock() const { return clock_; }
  // The minibatch that is next, and the first one that is not sampled.
  std::int64_t next() const { return next_; }
  std::int64_t sampled() const { return sampled_; }
  // Totals in seconds: the trainer's waits, and how long fetches were under way.
  double stalled_sampling() const { return stalled_sampling_; }
  double stalled_fetching() const { return stalled_fetching_; }
  double fetching() const { return fetching_; }

 private:
  // Seconds of minibatches that follow one another; old ones are forgotten.
  class Times {
   public:
    explicit Times(std::int64_t first) : first_(first) {}
    double at(std::int64_t minibatch, double unknown) const {
      const std::int64_t place = minibatch - first_;
      return place < 0 || place >= static_cast<std::int64_t>(seconds_.size())
                 ? unknown
                 : seconds_[static_cast<std::size_t>(place)];
    }
    // REQUIRES one that is known, or the one after the last of them.
    void set(std::int64_t minibatch, double seconds);
    void forget(std::int64_t before);

   private:
    std::int64_t first_;
    std::vector<double> seconds_;
  };

  double sample(const Feed& feed, Rows& rows, std::int64_t t);
  double may_decide(std::int64_t t) const;
  double room(const Feed& feed, std::int64_t s, std::int64_t t);

  Settings settings_;
  double clock_ = 0;
  std::int64_t next_, sampled_, first_;
  double stalled_sampling_ = 0, stalled_fetching_ = 0, fetching_ = 0;
  double sampler_ = 0, link_ = 0, decided_last_ = 0, arrived_ = 0;
  double steered_ = 0;
  std::int64_t old_depth_;
  // Samples before this one started under the settings of before.
  std::int64_t begun_samples_ = 0;
  Times sampled_at_, popped_, decided_, begun_;
  // First minibatches that may still wait in the queue, and in the window, for the next sample to start.
  std::int64_t queue_from_ = 0, window_from_ = 0;
};

}  // namespace rudder
