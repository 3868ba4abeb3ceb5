// The one interface of every transport: a list of row numbers in, rows out. A transport gathers rows of a
// peer's table into a destination of the caller and reports a completion. It knows nothing of slots, windows
// or policies.
//
// Thread-safety: every method may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/types.h"

namespace rudder {

using TableId = std::uint32_t;
using Ticket = std::uint64_t;  // names a gather; chosen by the caller, unique among those in flight

// Rows of one peer's table, to be written one after another from `out` on.
struct Gather {
  PartId peer{};
  TableId table = 0;
  std::vector<std::int64_t> rows;  // row numbers inside the peer's partition
  std::size_t row_bytes = 0;
  std::byte* out =
      nullptr;  // rows.size() * row_bytes bytes, valid until the completion or the end of cancel()
};

enum class CompletionStatus { kDone, kFailed };

struct Completion {
  Ticket ticket = 0;
  CompletionStatus status = CompletionStatus::kDone;
  std::string message;  // why it failed
};

// Takes completions, from any thread. Must not call back into the transport and must not block.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  virtual void complete(Completion completion) = 0;
};

class Transport {
 public:
  // Whether a table of a peer can be gathered from here, and if not why: a capability, not an error.
  struct Reach {
    bool possible = true;
    std::string why_not;
  };

  virtual ~Transport() = default;

  virtual std::string name() const = 0;
  // Where the rows of a peer come from, for messages: an address, a segment. Stays known when the peer is
  // lost; empty where it is not known.
  virtual std::string place(PartId peer) const = 0;
  virtual Reach reach(PartId peer, TableId table, std::size_t row_bytes) const = 0;
  // Whether one call asks all peers of a ticket: splitting a ticket by peers would then cost a call for each.
  virtual bool merges_peers() const { return false; }

  // Starts the gathers of one ticket (several peers' answers overlap). Exactly one completion follows,
  // possibly before submit returns, unless the ticket is cancelled first. Never throws for a peer's sake:
  // that is a failed completion.
  virtual void submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) = 0;

  // After it returns nothing is written to the ticket's destinations any more, and no completion comes that
  // had not come before. Unknown tickets are ignored.
  virtual void cancel(Ticket ticket) = 0;
  // The same for several at once: what has to be waited for is waited for together.
  virtual void cancel_all(std::span<const Ticket> tickets) {
    for (const Ticket ticket : tickets) cancel(ticket);
  }

  // Cancels everything. Submitting afterwards completes as failed. Idempotent.
  virtual void close() = 0;
};

}  // namespace rudder
