#include "fetch/probe.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <utility>

namespace rudder {
namespace {

using Clock = std::chrono::steady_clock;

// Tickets are unique among those of a transport. The fetch engines that may share it count up from 1.
std::atomic<Ticket> tickets{Ticket{1} << 62};

}  // namespace

class TransportProbe::Arrivals final : public CompletionSink {
 public:
  struct Arrival {
    Ticket ticket;
    Clock::time_point at;
    CompletionStatus status;
    std::string message;
  };

  void complete(Completion completion) override {
    const auto now = Clock::now();
    const std::lock_guard lock(mutex_);
    arrived_.push_back({completion.ticket, now, completion.status, std::move(completion.message)});
    changed_.notify_one();
  }

  // What arrived since the last call; empty where nothing does within the time.
  std::vector<Arrival> take(std::chrono::nanoseconds patience) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, patience, [this] { return !arrived_.empty(); });
    return std::exchange(arrived_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Arrival> arrived_;
};

TransportProbe::TransportProbe(ProbeConfig config) : config_(std::move(config)) {
  if (config_.transport == nullptr || config_.peers.empty())
    throw Error(ErrorCode::kConfig, "a probe needs a transport and at least one peer");
  if (config_.row_bytes == 0) throw Error(ErrorCode::kConfig, "rows must have at least one byte");
  if (config_.deadline <= std::chrono::nanoseconds(0))
    throw Error(ErrorCode::kConfig, "the deadline must be positive");
  for (const PartId peer : config_.peers) {
    const auto reach = config_.transport->reach(peer, config_.table, config_.row_bytes);
    if (!reach.possible) throw Error(ErrorCode::kConfig, config_.transport->name() + ": " + reach.why_not);
  }
}

std::size_t TransportProbe::first_column(std::size_t peer, std::size_t peers, std::size_t rows) {
  return peer * (rows / peers) + std::min(peer, rows % peers);
}

std::vector<Gather> TransportProbe::gathers(std::span<const std::int64_t> rows, std::byte* out) const {
  std::vector<Gather> made;
  for (std::size_t i = 0; i < config_.peers.size(); ++i) {
    const std::size_t from = first_column(i, config_.peers.size(), rows.size());
    const std::size_t to = first_column(i + 1, config_.peers.size(), rows.size());
    if (from == to) continue;
    const auto own = rows.subspan(from, to - from);
    made.push_back({config_.peers[i], config_.table, std::vector<std::int64_t>(own.begin(), own.end()),
                    config_.row_bytes, out + from * config_.row_bytes});
  }
  return made;
}

ProbeResult TransportProbe::run(std::span<const std::int64_t> rows, std::size_t rows_per_request,
                                std::size_t in_flight, std::span<std::byte> out) {
  if (rows_per_request == 0 || in_flight == 0)
    throw Error(ErrorCode::kConfig, "rows per request and requests in flight must be positive");
  if (rows.empty() || rows.size() % rows_per_request != 0 || out.size() != rows.size() * config_.row_bytes)
    throw Error(ErrorCode::kConfig,
                "rows must be whole requests, and the destination as large as their rows");
  const std::size_t requests = rows.size() / rows_per_request;
  // Before the clock starts: the lists are the caller's work, not the transport's.
  std::vector<std::vector<Gather>> prepared(requests);
  for (std::size_t r = 0; r < requests; ++r)
    prepared[r] = gathers(rows.subspan(r * rows_per_request, rows_per_request),
                          out.data() + r * rows_per_request * config_.row_bytes);

  const auto arrivals = std::make_shared<Arrivals>();
  std::vector<Clock::time_point> submitted(requests);
  ProbeResult result{.elapsed = {}, .latencies = std::vector<std::chrono::nanoseconds>(requests)};
  std::size_t next = 0;
  std::size_t done = 0;
  const Ticket first = tickets.fetch_add(requests, std::memory_order_relaxed);
  const auto began = Clock::now();
  auto ended = began;
  while (done < requests) {
    while (next < requests && next - done < in_flight) {
      submitted[next] = Clock::now();
      config_.transport->submit(first + next, std::move(prepared[next]), arrivals);
      ++next;
    }
    const auto arrived = arrivals->take(config_.deadline);
    if (arrived.empty()) give_up(first, first + next, ErrorCode::kDeadline, "no answer within the deadline");
    for (const auto& arrival : arrived) {
      if (arrival.status != CompletionStatus::kDone)
        give_up(first, first + next, ErrorCode::kTransport, arrival.message);
      const auto request = static_cast<std::size_t>(arrival.ticket - first);
      result.latencies[request] = arrival.at - submitted[request];
      ended = std::max(ended, arrival.at);
    }
    done += arrived.size();
  }
  result.elapsed = ended - began;
  return result;
}

void TransportProbe::give_up(Ticket first, Ticket last, ErrorCode code, const std::string& why) {
  std::vector<Ticket> all(last - first);
  std::iota(all.begin(), all.end(), first);
  config_.transport->cancel_all(all);
  const PartId peer = config_.peers.front();
  throw FetchError(code, config_.transport->name() + ": " + why, value(peer), {},
                   config_.transport->place(peer));
}

}  // namespace rudder
