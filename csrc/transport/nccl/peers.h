// The other ranks, each at the end of a connected stream socket: how ranks agree on what a round will move,
// and how each learns at once that another has failed. Counts go this way rather than over NCCL, whose
// kernels would hold processors of the GPU for as long as a rank is late; and a socket ends with its process,
// which NCCL between GPUs of one host never notices.
//
// One thread owns it; only wake() may be called from others.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace rudder::nccl {

class Peers {
 public:
  // What a rank says of a round: how many rows it wants of the one that it tells, and whether it has run out
  // of minibatches.
  struct Wish {
    std::uint64_t round = 0;
    std::int64_t rows = 0;
    bool done = false;
  };
  // What must be equal on every rank, or the rows would be mixed up.
  struct Agreement {
    std::uint64_t row_bytes = 0;
    std::uint64_t layout = 0;  // a digest of who owns which rows
  };

  // sockets[p] leads to rank p, sockets[rank] is not used. They are duplicated. Throws Error(kTransport).
  Peers(int rank, const std::vector<int>& sockets);
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  int rank() const { return rank_; }
  int count() const { return static_cast<int>(peers_.size()); }

  // "rank 1 at 10.0.0.3", for messages; the host alone, empty where the socket has no address (or for no
  // rank).
  std::string who(int peer) const;
  std::string who(const std::vector<int>& peers) const;
  std::string place(int peer) const;

  // None of these blocks; a socket that takes no more is tried again by turn().
  void agree(const Agreement& ours);
  void wish(int peer, const Wish& wish);
  // This rank fails, because of `culprit` (-1: of none of them).
  void fail(int culprit, std::string_view why);
  void bye();
  void ping();

  // Reads and writes what can be; waits at most so long for something to happen.
  void turn(std::chrono::nanoseconds wait);
  // Makes turn() return. Any thread.
  void wake() const;

  // Throws FetchError(kTransport) that names the peer, when one has failed, or is gone. A peer that said
  // goodbye counts as failed where `needed`.
  void check(bool needed) const;
  // Throws Error(kConfig) that names the peer whose agreement is another.
  bool agreed(const Agreement& ours) const;
  // Does every peer's wish for the round lie here? Throws FetchError(kTransport) for one of another round.
  bool wishes(std::uint64_t round) const;
  Wish take(int peer);
  // Has every peer said goodbye, or gone on, or gone?
  bool parted() const;
  // Ranks that have not said what is awaited of them; the first is the one to name.
  std::vector<int> without_wish() const;
  std::vector<int> silent() const;  // since ping()

 private:
  enum class Kind : std::uint32_t { kAgreement = 1, kWish, kFail, kBye, kPing, kPong };
  struct Frame {
    Kind kind;
    std::uint32_t text_bytes;  // that follow
    std::uint64_t first;
    std::int64_t second;
    std::uint64_t flags;
  };
  struct Peer {
    int socket = -1;
    std::string place;
    std::string in, out;
    std::deque<Wish> wishes;
    bool has_agreement = false;
    Agreement agreement;
    bool failed = false;
    int culprit = -1;
    std::string why;
    bool bye = false;
    bool gone = false;
    bool awaits_pong = false;
  };

  void close() noexcept;
  void say(Peer& peer, Frame frame, std::string_view text = {});
  void read(Peer& peer);
  void flush(Peer& peer);
  void heard(Peer& peer, const Frame& frame, std::string_view text);
  std::vector<int> all(bool (*which)(const Peer&)) const;

  const int rank_;
  std::vector<Peer> peers_;
  int wake_ = -1;
};

}  // namespace rudder::nccl
