// Measures a transport alone: gathers of known rows, a number of them in flight at any time, and how long
// each took. For benchmarks; training goes through the fetch engine, which calls the same submit.
//
// Thread-safety: one run at a time; any thread may call it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/types.h"
#include "transport/transport.h"

namespace rudder {

struct ProbeConfig {
  std::shared_ptr<Transport> transport;
  TableId table = 0;
  std::size_t row_bytes = 0;
  std::vector<PartId> peers;  // every request takes as many rows of each, but for the remainder
  std::chrono::nanoseconds deadline{std::chrono::seconds(30)};  // without any completion
};

struct ProbeResult {
  std::chrono::nanoseconds elapsed{0};              // from the first submit to the last completion
  std::vector<std::chrono::nanoseconds> latencies;  // of each request, from its submit to its completion
};

class TransportProbe {
 public:
  // Throws Error(kConfig) without peers, and where the transport cannot reach one of them.
  explicit TransportProbe(ProbeConfig config);

  // Columns of a request of `rows` rows that peer number i of `peers` answers: [first(i), first(i + 1)).
  static std::size_t first_column(std::size_t peer, std::size_t peers, std::size_t rows);

  // Runs rows.size() / rows_per_request requests, `in_flight` at a time. Request r asks for
  // rows[r * rows_per_request ...]: row numbers within the peer that answers their column. Its rows are
  // written to out + r * rows_per_request * row_bytes.
  //
  // Throws Error(kConfig) for sizes that do not fit, FetchError(kTransport) with the peer's message where a
  // gather fails, FetchError(kDeadline) where none completes in time. Nothing is written after it returned.
  ProbeResult run(std::span<const std::int64_t> rows, std::size_t rows_per_request, std::size_t in_flight,
                  std::span<std::byte> out);

 private:
  class Arrivals;  // completions, from any thread

  std::vector<Gather> gathers(std::span<const std::int64_t> rows, std::byte* out) const;
  [[noreturn]] void give_up(Ticket first, Ticket last, ErrorCode code, const std::string& why);

  const ProbeConfig config_;
};

}  // namespace rudder
