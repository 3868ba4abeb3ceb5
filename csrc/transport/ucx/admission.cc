#include "transport/ucx/admission.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/filter.h>
#include <netinet/in.h>
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
#include <utility>

#include "common/error.h"

namespace rudder::ucx {
namespace {

// A comparison of a filter jumps over at most 255 others.
constexpr std::size_t kBlock = 250;
// A filter has 4096 instructions, and each address takes one, each block two more.
constexpr std::size_t kMaxHosts = 4000;
static_assert(kMaxHosts + 2 * (kMaxHosts / kBlock + 1) + 6 <= BPF_MAXINSNS);

constexpr std::uint32_t kDrop = 0, kTake = ~std::uint32_t{0};
constexpr std::uint32_t kNetwork = static_cast<std::uint32_t>(SKF_NET_OFF);  // the IP header
constexpr std::uint32_t kSource = kNetwork + 12;

sock_filter statement(unsigned code, std::uint32_t k) {
  return {.code = static_cast<std::uint16_t>(code), .jt = 0, .jf = 0, .k = k};
}

sock_filter unless_equal(std::uint32_t k, std::size_t to, std::size_t otherwise) {
  return {.code = BPF_JMP | BPF_JEQ | BPF_K,
          .jt = static_cast<std::uint8_t>(to),
          .jf = static_cast<std::uint8_t>(otherwise),
          .k = k};
}

// Takes IPv4 packets from these hosts, drops the others.
std::vector<sock_filter> filter_of(const std::set<std::uint32_t>& hosts) {
  std::vector<sock_filter> code{
      statement(BPF_LD | BPF_B | BPF_ABS, kNetwork), statement(BPF_ALU | BPF_RSH | BPF_K, 4),
      unless_equal(4, 1, 0), statement(BPF_RET | BPF_K, kDrop), statement(BPF_LD | BPF_W | BPF_ABS, kSource)};
  const std::vector<std::uint32_t> all(hosts.begin(), hosts.end());
  for (std::size_t from = 0; from < all.size(); from += kBlock) {
    const std::size_t count = std::min(kBlock, all.size() - from);
    for (std::size_t i = 0; i < count; ++i) code.push_back(unless_equal(all[from + i], count - i, 0));
    code.push_back(statement(BPF_JMP | BPF_JA, 1));
    code.push_back(statement(BPF_RET | BPF_K, kTake));
  }
  code.push_back(statement(BPF_RET | BPF_K, kDrop));
  return code;
}

int option(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

// What a descriptor, an entry of this open /proc/self/fd, listens at, if it does. It may be another thread's,
// so it is looked at by its name: a sanitizer would call fstat a race with whoever opens it.
std::optional<Listener> listener(int folder, const char* name, int fd) {
  struct stat file{};
  if (fstatat(folder, name, &file, 0) != 0 || !S_ISSOCK(file.st_mode)) return {};
  if (option(fd, SO_ACCEPTCONN) != 1 || option(fd, SO_PROTOCOL) != IPPROTO_TCP) return {};
  sockaddr_storage at{};
  socklen_t size = sizeof(at);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0) return {};
  Listener found{.fd = fd, .inode = file.st_ino, .port = 0, .host = 0};
  if (at.ss_family == AF_INET) {
    sockaddr_in ip{};
    std::memcpy(&ip, &at, sizeof(ip));
    found.port = ntohs(ip.sin_port);
    found.host = ntohl(ip.sin_addr.s_addr);
  } else {
    sockaddr_in6 ip{};
    std::memcpy(&ip, &at, sizeof(ip));
    found.port = ntohs(ip.sin6_port);
  }
  return found;
}

bool names(std::span<const std::byte> address, std::uint16_t port) {
  const std::array<std::byte, 2> wanted{static_cast<std::byte>(port >> 8), static_cast<std::byte>(port)};
  return !std::ranges::search(address, wanted).empty();
}

// Whether somebody is connected to the port, or about to be. The kernel's table shows connections that no
// descriptor stands for yet.
bool connected(const Listener& at) {
  const std::unique_ptr<FILE, int (*)(FILE*)> table(std::fopen("/proc/thread-self/net/tcp", "re"),
                                                    &std::fclose);
  if (!table) throw std::system_error(errno, std::generic_category(), "/proc/thread-self/net/tcp");
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

std::uint32_t host_of(const std::string& text) {
  in_addr ip{};
  if (inet_pton(AF_INET, text.c_str(), &ip) != 1)
    throw Error(ErrorCode::kConfig, "'" + text + "' is no IPv4 address");
  return ntohl(ip.s_addr);
}

}  // namespace

std::vector<Listener> Admission::listening() {
  std::vector<Listener> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir("/proc/self/fd"), &closedir);
  if (!open) return found;
  while (const dirent* entry = readdir(open.get())) {
    const char* end = entry->d_name + std::strlen(entry->d_name);
    int fd = -1;
    if (std::from_chars(entry->d_name, end, fd).ptr != end) continue;
    if (const auto at = listener(dirfd(open.get()), entry->d_name, fd)) found.push_back(*at);
  }
  return found;
}

Admission::Admission(std::span<const Listener> before, std::span<const std::byte> address) {
  for (const Listener& at : listening()) {
    const bool was_there = std::ranges::any_of(before, [&](const auto& b) { return b.inode == at.inode; });
    // Another thread of the process may have begun to listen meanwhile.
    if (!was_there && names(address, at.port)) ports_.push_back(at);
  }
  if (ports_.empty()) why_open_ = "the ports that UCX listens at were not found";
  if (why_open_.empty()) why_open_ = attach({});
  if (!why_open_.empty()) return;
  try {
    intruded_ = std::ranges::any_of(ports_, connected);
  } catch (const std::exception& error) {
    why_open_ = std::string("who came in before the lock cannot be seen: ") + error.what();
  }
}

std::vector<std::string> Admission::hosts() const {
  std::vector<std::string> texts;
  for (const Listener& at : ports_) {
    const in_addr ip{htonl(at.host)};
    std::array<char, INET_ADDRSTRLEN> text{};
    if (at.host != 0 && inet_ntop(AF_INET, &ip, text.data(), text.size()) != nullptr)
      texts.emplace_back(text.data());
  }
  return texts;
}

void Admission::admit(std::uint64_t holder, std::span<const std::string> hosts) {
  std::set<std::uint32_t> wanted;
  for (const std::string& text : hosts) wanted.insert(host_of(text));
  if (const std::string why = replace(holder, std::move(wanted)); !why.empty())
    throw Error(ErrorCode::kTransport, why);
}

void Admission::revoke(std::uint64_t holder) {
  // Where the kernel takes no other filter it keeps the one that it has, which lets more in.
  (void)replace(holder, {});
}

std::string Admission::replace(std::uint64_t holder, std::set<std::uint32_t> hosts) {
  const std::lock_guard lock(mutex_);
  auto holders = holders_;
  holders.erase(holder);
  if (!hosts.empty()) holders.emplace(holder, std::move(hosts));
  std::set<std::uint32_t> all;
  for (const auto& [number, own] : holders) all.insert(own.begin(), own.end());
  if (why_open_.empty() && all != admitted_) {
    if (std::string why = attach(all); !why.empty()) return why;
    admitted_ = std::move(all);
  }
  holders_ = std::move(holders);
  return {};
}

std::string Admission::attach(const std::set<std::uint32_t>& hosts) const {
  if (hosts.size() > kMaxHosts)
    return "a port of UCX can be locked for " + std::to_string(kMaxHosts) + " hosts, not for " +
           std::to_string(hosts.size());
  auto code = filter_of(hosts);
  const sock_fprog program{.len = static_cast<std::uint16_t>(code.size()), .filter = code.data()};
  for (const Listener& at : ports_) {
    if (setsockopt(at.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0) continue;
    const int error = errno;
    return "the kernel takes no socket filter for " + std::to_string(hosts.size()) +
           " hosts: " + std::generic_category().message(error) +
           (error == ENOMEM ? " (raise net.core.optmem_max)" : "");
  }
  return {};
}

}  // namespace rudder::ucx
