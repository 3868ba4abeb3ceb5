#include "transport/ucx/admission.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
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

std::uint32_t host_of(const std::string& text) {
  in_addr ip{};
  if (inet_pton(AF_INET, text.c_str(), &ip) != 1)
    throw Error(ErrorCode::kConfig, "'" + text + "' is no IPv4 address");
  return ntohl(ip.s_addr);
}

std::string text_of(std::uint32_t host) {
  const in_addr ip{htonl(host)};
  std::array<char, INET_ADDRSTRLEN> text{};
  return inet_ntop(AF_INET, &ip, text.data(), text.size()) == nullptr ? "" : text.data();
}

}  // namespace

Admission::Admission(std::span<const Listener> before, std::span<const std::byte> address, std::size_t ports)
    : ports_(opened_since(before, address)) {
  for (const Listener& at : ports_) hosts_.push_back(text_of(at.host));
  if (ports_.size() != ports)
    why_open_ = "of " + std::to_string(ports) + " ports that UCX should listen at, " +
                std::to_string(ports_.size()) + " were found";
  if (std::string why = attach({}); !why.empty()) {
    why_open_ = std::move(why);
    ports_.clear();
    return;
  }
  try {
    intruded_ = std::ranges::any_of(ports_, reached);
  } catch (const std::exception& error) {
    why_open_ = std::string("who came in before the lock cannot be seen: ") + error.what();
  }
}

void Admission::close() {
  const std::lock_guard lock(mutex_);
  ports_.clear();
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
  if (all != admitted_) {
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
