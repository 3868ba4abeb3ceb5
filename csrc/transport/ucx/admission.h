// The lock of UCX's own TCP ports. UCX takes whoever connects to one of them for a peer, who may then write
// to the process; so the kernel is told to drop what comes there from any address but those of admitted
// peers, by a socket filter on each port, which the connections that come in by it inherit. At first nobody
// is admitted.
//
// It tells addresses apart, not processes: whoever is on an admitted host, or can send and receive in its
// name, gets to the port. It knows IPv4 alone: packets of IPv6 never pass, and a port
// at such an address counts as not found.
//
// Thread-safety: every method may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "transport/ucx/listeners.h"

namespace rudder::ucx {

class Admission {
 public:
  // Of a worker that listens nowhere.
  Admission() = default;
  // Locks the ports that were not among `before` and are named in the worker's address, of which there should
  // be so many. Where a connection came in before the lock was there, `intruded` says so: the worker has to
  // be given up.
  Admission(std::span<const Listener> before, std::span<const std::byte> address, std::size_t ports);
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  bool intruded() const { return intruded_; }
  // Why strangers can connect all the same; empty where they cannot.
  const std::string& why_open() const { return why_open_; }
  // Where UCX listens ("10.0.0.1"): where this worker's own connections come from. For the peer's `admit`.
  const std::vector<std::string>& hosts() const { return hosts_; }

  // Lets connections from these IPv4 addresses in on behalf of a holder, in place of those it
  // had. When it returns, the kernel acts by it. Throws Error(kConfig) for another kind of address,
  // Error(kTransport) for more than a filter holds.
  void admit(std::uint64_t holder, std::span<const std::string> hosts);
  // Connections that are there stay, new ones are dropped where no other holder admits them. Never fails.
  void revoke(std::uint64_t holder);
  // The ports are about to go away: from now on admitting and revoking touch nothing. Waits for those that
  // are at it.
  void close();

 private:
  // Empty where it is done; else why not, and nothing has changed.
  std::string replace(std::uint64_t holder, std::set<std::uint32_t> hosts);
  // What the kernel says against a filter that lets these in; empty where it has taken it. REQUIRES the
  // mutex.
  std::string attach(const std::set<std::uint32_t>& hosts) const;

  // As they were found; the constructor alone sets them.
  std::vector<std::string> hosts_;
  std::string why_open_;
  bool intruded_ = false;

  std::mutex mutex_;
  std::vector<Listener> ports_;  // that are locked; none after close
  std::map<std::uint64_t, std::set<std::uint32_t>> holders_;
  std::set<std::uint32_t> admitted_;
};

}  // namespace rudder::ucx
