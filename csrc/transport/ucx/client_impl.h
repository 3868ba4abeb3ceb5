// The inside of the `ucx` transport, for its source files alone.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/error.h"
#include "transport/ucx/client.h"

namespace rudder {

// What is behind Ucx. client.cc has what any thread calls, client_progress.cc what the worker's thread does,
// and client_gets.cc how that reads rows by itself.
// All but `mutex_`'s state is owned by the worker's thread.
class Ucx::Impl {
 public:
  using Clock = ucx::Worker::Clock;
  using Latch = std::shared_ptr<std::latch>;
  // How long a cancelled chunk that is arriving may take to end.
  static constexpr auto kCancelTime = std::chrono::seconds(1);

  explicit Impl(Config config) : config_(std::move(config)), worker_(config_.worker) {
    if (config_.chunk_bytes == 0 || config_.in_flight_bytes < config_.chunk_bytes)
      throw Error(ErrorCode::kConfig,
                  "bytes in flight must hold at least one chunk of " + std::to_string(config_.chunk_bytes));
    worker_.on_message(wire::kChunk, &Impl::on_chunk, this);
    worker_.on_message(wire::kRefusal, &Impl::on_refusal, this);
    worker_.start([this] { return step(); });
  }
  ~Impl() { close(); }

  const std::vector<std::byte>& address() const { return worker_.address(); }
  ucx::Admission& admission() { return worker_.admission(); }
  void connect(PartId peer, std::span<const std::byte> address, std::uint64_t session,
               const wire::Token& token, const std::string& version, const std::string& place);
  void open(PartId peer, TableId table, std::size_t rows, std::size_t row_bytes, const wire::Offer& offer);
  std::string why_no_gets(PartId peer, TableId table) const;
  void use_gets(PartId peer, TableId table, bool on);
  void disconnect(PartId peer, const std::string& why);
  bool connected(PartId peer) const;
  Stats stats() const;
  std::string place(PartId peer) const;
  Reach reach(PartId peer, TableId table, std::size_t row_bytes) const;
  void submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink);
  void cancel_all(std::span<const Ticket> tickets);
  std::optional<Loss> next_loss();
  void close();

 private:
  // A ticket. It ends when all its rows are here, or when it has failed or was cancelled and no chunk of it
  // is arriving any more: only then may its destination go away.
  struct Job {
    Ticket ticket = 0;
    std::vector<Gather> gathers;
    std::shared_ptr<CompletionSink> sink;
    std::size_t open = 0;       // pieces in queues + requests without an answer
    std::size_t receiving = 0;  // chunks that UCX is writing to the destination
    bool over = false;          // failed or cancelled
    std::string why;
    std::vector<Latch> cancels;
    Clock::time_point cancel_due{};
  };
  using JobPtr = std::shared_ptr<Job>;
  // What is left to ask for of one gather.
  struct Piece {
    JobPtr job;
    std::size_t gather = 0;
    std::size_t next = 0;
  };
  struct Request {
    PartId peer{};
    std::uint64_t connection = 0;
    JobPtr job;  // null: its answer is no longer wanted
    std::byte* out = nullptr;
    std::uint32_t rows = 0;
    std::size_t bytes = 0;
    bool receiving = false;
    std::size_t gets = 0;  // not yet complete
    ucs_status_t status = UCS_OK;
  };
  // A table that one-sided gets read.
  struct Remote {
    std::uint64_t address = 0;
    ucp_rkey_h key = nullptr;
  };
  struct Peer {
    std::unique_ptr<ucx::Endpoint> endpoint;  // null: not connected
    std::uint64_t connection = 0;
    std::uint64_t session = 0;
    wire::Token token{};
    std::string version;        // of the server's UCX
    std::size_t in_flight = 0;  // bytes
    std::size_t requests = 0;
    std::deque<Piece> queue;
    std::map<TableId, Remote> remotes;
    std::string error;  // why the connection must be given up, found while UCX was being progressed
  };
  struct Arrival {
    void* descriptor;
    std::uint64_t request;
  };
  // One of UCX's operations that write to a destination.
  struct Receive {
    Impl* self;
    std::uint64_t request;
  };
  struct Table {
    std::size_t rows = 0, row_bytes = 0;
    std::string why_no_gets;
  };
  // What other threads may see of a peer.
  struct Face {
    bool connected = false;
    std::string why_not = "is not connected";
    std::map<TableId, Table> tables;
  };

  static ucs_status_t on_chunk(void* self, const void* header, std::size_t header_length, void* data,
                               std::size_t length, const ucp_am_recv_param_t* param);
  static ucs_status_t on_refusal(void* self, const void* header, std::size_t header_length, void* data,
                                 std::size_t length, const ucp_am_recv_param_t* param);
  static void on_got(void* request, ucs_status_t status, void* receive);
  static void on_received(void* request, ucs_status_t status, std::size_t length, void* receive);

  std::optional<Clock::time_point> step();
  void receive(const Arrival& arrival);
  void received(std::uint64_t id, ucs_status_t status);
  void answered(std::uint64_t id, const std::string& error);
  void add(const JobPtr& job);
  void pump(Peer& peer, PartId number);
  // The next rows of a piece, as a request that is under way from now on: its number.
  std::uint64_t begin(Peer& peer, PartId number, Piece& piece, std::size_t rows);
  void ask(Peer& peer, PartId number, Piece& piece, std::size_t rows);
  // Makes a table's memory readable by gets, or says why not.
  std::string reach_memory(Peer& peer, TableId table, const wire::Offer& offer) const;
  void get(Peer& peer, PartId number, Piece& piece, std::size_t rows, const Remote& remote);
  void got(std::uint64_t id, ucs_status_t status);
  void end(const JobPtr& job, const std::string& why);
  void settle(const JobPtr& job);
  void lose(PartId number, const std::string& why, bool tell);
  std::string refusal(const Gather& gather) const;
  // The peer's live connection, where the token of a message is that connection's; else null.
  Peer* sender(const Request& request, const wire::Token& token);

  const Config config_;
  std::map<PartId, Peer> peers_;
  std::unordered_map<Ticket, JobPtr> jobs_;
  std::unordered_map<std::uint64_t, Request> requests_;
  std::vector<Arrival> arrivals_;
  std::set<std::pair<PartId, TableId>> by_gets_;
  std::uint64_t connections_ = 0;
  std::atomic<std::uint64_t> asked_{0}, rows_{0}, bytes_{0}, errors_{0}, in_flight_{0};

  mutable std::mutex mutex_;
  std::map<PartId, Face> faces_;
  std::map<PartId, std::string> places_;
  bool closed_ = false;
  std::deque<Loss> losses_;
  std::condition_variable lost_;
  std::mutex ending_;  // one close at a time settles what is left

  ucx::Worker worker_;  // the last member: its thread uses the others
};

inline std::string partition(PartId peer) { return "partition " + std::to_string(value(peer)); }

}  // namespace rudder
