// UCX's own listening TCP sockets, found among all descriptors of this process: UCX names none of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace rudder::ucx {

// A TCP socket of this process that listens at an IPv4 address.
struct Listener {
  int fd = -1;
  std::uint64_t inode = 0;
  std::uint16_t port = 0;
  std::uint32_t host = 0;  // in host order
};

// What this process listens at now.
std::vector<Listener> listening();

// Those that were not among `before` and are named in a worker's address: another thread of the process may
// have begun to listen meanwhile.
std::vector<Listener> opened_since(std::span<const Listener> before, std::span<const std::byte> address);

// Whether somebody has ever connected to the port, or is about to: who still waits to be accepted counts, and
// so does who has gone again. REQUIRES that nobody can come any more, and that what was accepted is still
// open: UCX accepts at any time, but neither reads nor closes before it is progressed. Throws
// std::system_error where it cannot be seen.
bool reached(const Listener& at);

}  // namespace rudder::ucx
