// The fetch engine: takes the rows that a minibatch misses, grouped by the partition that owns them, and has
// them gathered by transports. Each partition has a ladder of routes: when the first fails or misses its
// deadline, the rows move to the next; when the last one fails, the fetch ends in an error naming partition
// and ids. Nothing waits for ever. A better route that says it reaches the peer again is tried again after a
// pause, which doubles each time it fails.
//
// One progress thread owns all state; `fetch` may be called from any thread; `done` is called on the progress
// thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "transport/transport.h"

namespace rudder {

struct FetchConfig {
  TableId table = 0;
  std::size_t row_bytes = 0;
  std::vector<std::int64_t> part_starts;  // partition p owns ids [starts[p], starts[p+1])
  std::vector<std::vector<std::shared_ptr<Transport>>> routes;  // by partition, best first
  // Of a fetch, on all routes: each gets an equal share of what is left when its turn comes. The time that a
  // transport takes to cancel a late attempt (a second at most) comes on top.
  std::chrono::nanoseconds deadline{std::chrono::seconds(30)};
  // Before a route that failed is tried again; after a missed deadline at least twice that deadline.
  std::chrono::nanoseconds pause{std::chrono::seconds(5)};
};

// State of a partition's ladder.
struct RouteState {
  std::string transport;  // in use; empty for a partition without routes
  bool fallback = false;
  std::string why;  // why the better ones are not
};

class FetchEngine {
 public:
  using FetchId = std::uint64_t;
  // `error` is null when every row is in place.
  using Done = std::function<void(FetchId, FailurePtr error)>;

  // Throws Error(kConfig) where a table's reach is refused by every route of a partition that has routes.
  FetchEngine(FetchConfig config, Done done);
  ~FetchEngine();

  // gathers[i].peer etc. name rows of one partition each; `done(id, ...)` follows exactly once, unless the
  // engine is closed. REQUIRES a route to each peer.
  void fetch(FetchId id, std::vector<Gather> gathers);

  std::vector<RouteState> routes() const;

  // Stops the progress thread; after it returns no destination is written any more. Idempotent.
  void close();

 private:
  using Clock = std::chrono::steady_clock;
  class Inbox;  // completions and new fetches, from any thread

  struct Fetch {
    std::size_t open = 0;  // tickets not completed
  };
  struct Attempt {
    FetchId fetch;
    std::shared_ptr<Transport> transport;
    std::vector<Gather> gathers;
    Clock::time_point began, due;
    std::chrono::nanoseconds budget;  // of its fetch, when it began
  };
  enum class Grouping { kByTransport, kByPartition };
  struct Ladder {
    std::vector<std::shared_ptr<Transport>> routes;
    std::size_t now = 0;
    std::string why;
    std::chrono::nanoseconds pause{0};  // the last one; 0 where no route has failed
    Clock::time_point again{};          // when a better route may be tried
  };

  void progress();
  // `budget`: time that is left for the gathers, on all routes together.
  void start(FetchId id, std::vector<Gather> gathers, Grouping grouping, std::chrono::nanoseconds budget);
  void settle(Ticket ticket, const Completion& completion);
  void demote(Attempt attempt, ErrorCode code, const std::string& why);
  void fail(FetchId id, FailurePtr error);
  // Takes the attempts off and cancels them, those of a transport together.
  std::vector<Attempt> withdraw(const std::function<bool(const Attempt&)>& which);
  // Goes back to better routes where they reach the partitions again. For new fetches only: one that has just
  // failed on a route must not meet it twice.
  void climb(const std::vector<Gather>& gathers);

  const TableId table_;
  const std::size_t row_bytes_;
  const std::vector<std::int64_t> part_starts_;
  const Done done_;
  const std::shared_ptr<Inbox> inbox_;

  mutable std::mutex ladders_mutex_;  // `routes` may be called from elsewhere
  std::vector<Ladder> ladders_;
  const std::chrono::nanoseconds deadline_;
  const std::chrono::nanoseconds pause_;

  // Owned by the progress thread.
  std::map<FetchId, Fetch> fetches_;
  std::map<Ticket, Attempt> attempts_;

  std::mutex joining_;
  std::thread thread_;
};

}  // namespace rudder
