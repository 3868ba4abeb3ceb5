#include "transport/ucx/listeners.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <system_error>

namespace rudder::ucx {
namespace {

[[noreturn]] void cannot_see(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

int option(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

struct Socket {
  Listener at;
  bool listens;
};

// What a descriptor, an entry of this open /proc/self/fd, is, if it is a TCP socket of IPv4. It may be
// another thread's, so it is looked at by its name: a sanitizer would call fstat a race with whoever opens
// it.
std::optional<Socket> socket_at(int folder, const char* name, int fd) {
  struct stat file{};
  if (fstatat(folder, name, &file, 0) != 0 || !S_ISSOCK(file.st_mode)) return {};
  if (option(fd, SO_DOMAIN) != AF_INET || option(fd, SO_PROTOCOL) != IPPROTO_TCP) return {};
  sockaddr_in ip{};
  socklen_t size = sizeof(ip);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&ip), &size) != 0) return {};
  return Socket{{fd, file.st_ino, ntohs(ip.sin_port), ntohl(ip.sin_addr.s_addr)},
                option(fd, SO_ACCEPTCONN) == 1};
}

std::vector<Socket> sockets() {
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir("/proc/self/fd"), &closedir);
  std::vector<Socket> found;
  if (!open) return found;
  while (const dirent* entry = readdir(open.get())) {
    const char* end = entry->d_name + std::strlen(entry->d_name);
    int fd = -1;
    if (std::from_chars(entry->d_name, end, fd).ptr != end) continue;
    if (const auto at = socket_at(dirfd(open.get()), entry->d_name, fd)) found.push_back(*at);
  }
  return found;
}

bool names(std::span<const std::byte> address, std::uint16_t port) {
  const std::array<std::byte, 2> wanted{static_cast<std::byte>(port >> 8), static_cast<std::byte>(port)};
  return !std::ranges::search(address, wanted).empty();
}

// The kernel's table shows connections that are half made, and those that no descriptor stands for yet.
bool in_table(const Listener& at) {
  const std::unique_ptr<FILE, int (*)(FILE*)> table(std::fopen("/proc/thread-self/net/tcp", "re"),
                                                    &std::fclose);
  if (!table) cannot_see("/proc/thread-self/net/tcp");
  std::array<char, 512> line{};
  while (std::fgets(line.data(), line.size(), table.get()) != nullptr) {
    unsigned host = 0, port = 0, state = 0;
    // The kernel's own numbers; a line of another shape is the title.
    // NOLINTNEXTLINE(cert-err34-c,bugprone-unchecked-string-to-number-conversion)
    if (std::sscanf(line.data(), " %*d: %8X:%4X %*8X:%*4X %2X", &host, &port, &state) != 3) continue;
    constexpr unsigned kTimeWait = 6, kListen = 10;
    if (ntohl(host) == at.host && port == at.port && state != kListen && state != kTimeWait) return true;
  }
  return false;
}

// Not in the table, but still to be accepted: who was reset while waiting.
bool in_queue(const Listener& at) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(at.fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) cannot_see("TCP_INFO");
  return info.tcpi_unacked != 0;  // of a socket that listens: how many wait to be accepted
}

// Not in the table either: who was accepted and then reset. What it had sent would still be read.
bool accepted(const Listener& at) {
  return std::ranges::any_of(sockets(), [&](const Socket& socket) {
    return !socket.listens && socket.at.port == at.port && socket.at.host == at.host;
  });
}

}  // namespace

std::vector<Listener> listening() {
  std::vector<Listener> found;
  for (const Socket& socket : sockets())
    if (socket.listens) found.push_back(socket.at);
  return found;
}

std::vector<Listener> opened_since(std::span<const Listener> before, std::span<const std::byte> address) {
  std::vector<Listener> found = listening();
  std::erase_if(found, [&](const Listener& at) {
    return !names(address, at.port) ||
           std::ranges::any_of(before, [&](const Listener& b) { return b.inode == at.inode; });
  });
  return found;
}

// In the order in which a connection goes on, so that none is overlooked between two of them.
bool reached(const Listener& at) { return in_table(at) || in_queue(at) || accepted(at); }

}  // namespace rudder::ucx
