// The prefetcher of one table: composes ledger (window + policy), buffer, staging and fetch engine, and holds
// no algorithm of its own. One owner thread keeps all metadata; samplers submit minibatches, trainers take
// them in order, and stages never block one another: sampling ahead, fetching and training overlap, with
// back-pressure in rows and bytes.
//
// Any method may be called from any thread. Rows of a taken minibatch stay where they are until a later one
// is taken.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/part_map.h"
#include "common/thread_pool.h"
#include "common/types.h"
#include "cuda/device.h"
#include "fetch/fetch_engine.h"
#include "ledger/ledger.h"
#include "memory/pin.h"
#include "prefetcher/copies.h"
#include "prefetcher/minibatch.h"
#include "prefetcher/row_store.h"

namespace rudder {

struct PrefetcherConfig {
  TableId table = 0;
  std::size_t row_bytes = 0;
  std::vector<std::int64_t> part_starts;  // partition p owns ids [starts[p], starts[p+1])
  PartId local_part{};
  const std::byte* local_rows = nullptr;  // the local shard; may be null when it has no rows
  std::vector<std::vector<std::shared_ptr<Transport>>> routes;  // by partition, best first
  PolicyConfig policy;          // capacity in rows; the buffer's memory is sized by it
  std::size_t most_rows = 0;    // that steer() may raise the capacity to, where that is more
  std::size_t window_rows = 0;  // remote requests to keep waiting beyond the minibatch in use
  std::size_t depth = 2;        // minibatches fetched ahead of the one in use, >= 1
  std::size_t staging_bytes = std::size_t{256}
                              << 20;  // of rows fetched and waiting; one minibatch always passes
  std::chrono::nanoseconds deadline{std::chrono::seconds(30)};
  std::size_t threads = 1;  // that copy rows into a batch, the caller's counted
  bool record = false;      // keep the ledger's calls for drain_record()
  // That reads rows, by the calls that take a DeviceOut; null: none. Memory of rows is pinned for it.
  std::shared_ptr<cuda::Device> gpu;
  std::size_t device_rows = 0;  // rows of the buffer that its memory holds, too
};

// Device memory that rows go to, and the stream of the caller on which they arrive there.
struct DeviceOut {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  cuda::Stream stream = nullptr;
};

// Running totals and present sizes; see prefetcher.cc for who counts what.
struct Counters {
  std::uint64_t minibatches = 0;     // planned
  std::uint64_t ids_requested = 0;   // local ones and repetitions included
  std::uint64_t rows_requested = 0;  // remote, distinct per minibatch
  std::uint64_t rows_hit = 0, rows_moved = 0, rows_merged = 0, rows_replaced = 0, rows_evicted = 0;
  std::uint64_t rows_hit_on_device = 0;   // of rows_hit: in the device tier
  std::uint64_t rows_read_unplanned = 0;  // remote rows requested by reads outside the window
  std::uint64_t rows_refetched =
      0;  // of rows_moved: fetched again, because their source was written to or a fetch failed
  std::uint64_t rows_wasted =
      0;  // of rows_moved: for minibatches that were dropped, and are counted nowhere else
  std::uint64_t fetches_failed = 0;
  std::uint64_t promotions_refused =
      0;                        // times that the GPU had no memory to take rows up to the device tier
  double seconds_fetching = 0;  // with at least one fetch under way
  double seconds_stalled = 0;   // trainers waiting in take() and read()
  // now:
  std::size_t capacity_rows = 0, cached_rows = 0, window_rows = 0, window_minibatches = 0;
  std::size_t held_rows = 0;  // whose memory is taken: the capacity, and what readers keep beyond it
  std::size_t device_rows = 0, device_bytes = 0;  // of the device tier: rows that it may hold, memory
  // For lists and rows on their way to the GPU, of all its tables: pinned memory, memory of the GPU.
  std::size_t upload_bytes = 0, upload_device_bytes = 0;
  std::size_t overhead_bytes = 0;  // memory beside the buffer's rows
  std::size_t window_bytes = 0, waiting_bytes = 0, staging_bytes_now = 0, staging_bytes_peak = 0;
};

// One call of the ledger, in order: replaying them gives the same rows. `number` is that of a minibatch
// (foresee, execute), rows of capacity, minibatches of depth or observe, replace's 0 or 1, fraction's
// percent, for "invalidate" the rows fetched again for minibatches on their way, for "drop" the minibatches
// that were executed and are dropped before their use.
struct LedgerCall {
  // foresee | execute | read | drop | capacity | depth | prior | replace | fraction | observe |
  // unstage | invalidate
  std::string_view call;
  std::uint64_t number = 0;
  std::vector<NodeId> ids;
};

struct Steering {
  std::optional<std::size_t> capacity_rows, window_rows, depth, staging_bytes, device_rows;
  std::shared_ptr<const Prior> prior;     // null: as it is
  std::optional<bool> replace;            // the paper's yes/no: replace rows at the next minibatch
  std::optional<std::uint32_t> fraction;  // percent of the buffer that one such replacement may exchange
  std::optional<std::uint64_t> observe;   // static-frequency: minibatches to count in all
};

// Called now and then while a call waits, without any lock; what it throws ends the wait (an interrupt, say).
using Poll = std::function<void()>;

class Prefetcher {
 public:
  // Throws Error(kConfig), Error(kOutOfMemory).
  explicit Prefetcher(const PrefetcherConfig& config);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // Appends a minibatch to the window. Throws Error(kOutOfRange), Error(kClosed).
  Seq submit(std::span<const NodeId> ids, std::size_t waiting_bytes);
  // Waits until the window wants another minibatch; false on timeout. Throws Error(kClosed).
  bool wait_room(std::chrono::nanoseconds timeout);

  // Waits until the minibatch's rows are here, and releases every earlier one. Throws FetchError,
  // Error(kState) for a number that was dropped, released or never given, Error(kClosed), Error(kDeadline)
  // after `timeout`. A fetch that failed ahead of time is tried once more first.
  void take(Seq seq, std::chrono::nanoseconds timeout, const Poll& poll = {});
  // Copies the rows of a taken minibatch, in the order of its ids. Throws Error(kState) before take(),
  // Error(kConfig) unless out holds exactly ids x row_bytes.
  void gather(Seq seq, std::span<std::byte> out, const Poll& poll = {});
  // The same into device memory, in one launch on the caller's stream: returns when it is queued there. A
  // later take() then releases the minibatch once the GPU is done with it. Where a GPU lags so far behind
  // that rows that it has yet to read take more than staging_bytes, take() and read() wait for the oldest of
  // its gathers. Throws Error(kConfig) without a GPU, also Error(kDevice).
  void gather(Seq seq, const DeviceOut& out, const Poll& poll = {});
  void release(Seq seq);
  // Rows of any ids, now. Throws as submit and take do.
  void read(std::span<const NodeId> ids, std::span<std::byte> out, const Poll& poll = {});
  void read(std::span<const NodeId> ids, const DeviceOut& out, const Poll& poll = {});

  // Forgets minibatches submitted but not taken; returns how many.
  std::size_t drop_pending();
  // The source's rows changed: what is buffered of them goes, what is staged is fetched anew. nullopt: all
  // rows.
  void invalidate(std::optional<std::span<const NodeId>> ids);
  void steer(const Steering& steering);

  Counters counters() const;
  std::vector<RouteState> routes() const { return engine_->routes(); }
  const Arena& arena() const { return store_.buffer().arena(); }
  // Null where there is none.
  const cuda::Device* gpu() const { return gpu_.get(); }
  // Why a GPU does not read the local shard where it lies; empty where it does, or where nothing asks.
  const std::string& local_refusal() const { return local_.refusal(); }
  std::vector<LedgerCall> drain_record();
  std::size_t row_bytes() const { return row_bytes_; }

  // Stops all threads; waiting calls throw Error(kClosed). Idempotent.
  void close();

 private:
  using Clock = std::chrono::steady_clock;
  using BatchPtr = std::shared_ptr<Minibatch>;

  // -- any thread
  BatchPtr split(std::span<const NodeId> ids, std::vector<NodeId>& remote) const;
  void post(std::function<void()> command);
  void post_and_wait(std::function<void()> command);
  BatchPtr find_batch(Seq seq) const;  // REQUIRES mutex_
  void wait_ready(std::unique_lock<std::mutex>& lock, const Minibatch& batch,
                  std::optional<Clock::time_point> until, const Poll& poll);
  // Waits for the GPU, gather after gather, while more is staged than may be.
  void hold_back();
  // Both write all rows of a batch: gather and read are the same for either kind of destination.
  void copy(std::unique_lock<std::mutex>& lock, Minibatch& batch, std::span<std::byte> out);
  void copy(std::unique_lock<std::mutex>& lock, Minibatch& batch, const DeviceOut& out);
  template <typename Out>
  void gather_into(Seq seq, const Out& out, const Poll& poll);
  template <typename Out>
  void read_into(std::span<const NodeId> ids, const Out& out, const Poll& poll);
  void check_bytes(const Minibatch& batch, std::size_t bytes) const;
  void check_gpu() const;
  void check_open() const;  // REQUIRES mutex_

  // -- the owner thread
  void own();
  void plan();
  void unstage_used();
  void admit(const BatchPtr& batch, const Verdict& verdict);
  void start(RowStore::Order order);
  void on_fetched(FetchEngine::FetchId id, const FailurePtr& error);
  void released_upto(Seq seq);
  void done_reading(const BatchPtr& batch);
  void settle();
  void set_device_rows(std::size_t rows);
  void invalidate_now(std::span<const NodeId> ids);
  void retry(const BatchPtr& batch);
  void refetch(const BatchPtr& batch, std::span<const std::size_t> rows, std::size_t waits_settled);
  void take_back(const Minibatch& batch);
  void steer_now(const Steering& steering);
  void note(std::string_view call, std::uint64_t number, std::span<const NodeId> ids = {});
  void publish();
  void end_fetching();  // REQUIRES mutex_ held

  const std::size_t row_bytes_;
  const PartMap parts_;
  const std::byte* const local_rows_;
  const bool recording_;
  const std::shared_ptr<cuda::Device> gpu_;
  const PinnedRange local_;
  Copies copies_;  // all that the GPU was asked for

  // -- owner thread only
  Ledger ledger_;
  RowStore store_;
  std::deque<BatchPtr> unplanned_;   // parallel to the ledger's window
  std::map<Seq, BatchPtr> planned_;  // planned and not released
  std::map<FetchEngine::FetchId, std::shared_ptr<Staged>> fetching_;
  std::size_t depth_;
  std::uint32_t fraction_ = 100;            // percent of the buffer that a replacement may exchange
  std::atomic<std::size_t> staging_bytes_;  // written by the owner thread alone
  Seq taken_ = 0;                           // the newest minibatch that a trainer took
  Seq released_ = 0;                        // minibatches up to here are done
  Seq release_asked_ = 0;  // and up to here as far as trainers are concerned: a GPU may still read some
  std::vector<BatchPtr> reading_;  // unplanned reads that a GPU still makes
  FetchEngine::FetchId next_fetch_ = 1;
  std::size_t foreseen_ = 0;  // requests that moved from the queue into the window since the last publish()
  Counters count_;

  // -- shared, under mutex_
  mutable std::mutex mutex_;
  std::condition_variable changed_;  // a minibatch got ready, room came, commands arrived, closed
  std::deque<std::function<void()>> commands_;
  std::map<Seq, BatchPtr> batches_;  // submitted and not released
  Seq next_seq_ = 1;
  Seq asked_for_ = 0;                    // the newest minibatch that take() was called for
  std::size_t queued_rows_ = 0;          // requests in commands_, not yet in the window
  std::size_t waiting_minibatches_ = 0;  // submitted, not planned
  std::size_t waiting_bytes_ = 0;
  std::size_t window_rows_;
  double seconds_stalled_ = 0;
  Counters published_;
  std::optional<Clock::time_point> fetching_since_;  // not in published_ yet: fetches may never pause
  std::vector<LedgerCall> record_;
  bool closed_ = false;
  FailurePtr fatal_;  // the owner thread could not go on (out of memory): every call throws it

  ThreadPool pool_;
  std::unique_ptr<FetchEngine> engine_;
  std::mutex joining_;
  std::thread owner_;
};

}  // namespace rudder
