// The lock of UCX's ports, with real sockets on the loopback network, all of whose addresses are this host's.
#include "transport/ucx/admission.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "transport/ucx/worker.h"

namespace rudder::ucx {
namespace {

// Longer than any connection on loopback takes, shorter than the second after which a lost one is tried anew.
constexpr int kPatienceMs = 300;

class Socket {
 public:
  Socket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Socket() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

sockaddr_in place(const std::string& host, std::uint16_t port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET, host.c_str(), &at.sin_addr), 1);
  return at;
}

void bind_to(const Socket& socket, const std::string& host) {
  const sockaddr_in at = place(host, 0);
  ASSERT_EQ(bind(socket.fd(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
}

// Starts to connect from one of this host's addresses.
Socket knock(const std::string& from, const std::string& host, std::uint16_t port) {
  Socket socket;
  bind_to(socket, from);
  const sockaddr_in at = place(host, port);
  (void)connect(socket.fd(), reinterpret_cast<const sockaddr*>(&at), sizeof(at));
  return socket;
}

bool gets_through(const Socket& socket, int patience_ms = kPatienceMs) {
  pollfd wait{socket.fd(), POLLOUT, 0};
  return poll(&wait, 1, patience_ms) == 1 && (wait.revents & (POLLERR | POLLHUP)) == 0;
}

bool gets_through(const std::string& from, std::uint16_t port) {
  return gets_through(knock(from, "127.0.0.1", port));
}

// A socket that listens as UCX's would, and an address that names its port.
struct Port {
  Socket socket;
  std::uint16_t number = 0;
  std::vector<std::byte> address;

  Port() {
    bind_to(socket, "127.0.0.1");
    EXPECT_EQ(listen(socket.fd(), 16), 0);
    for (const Listener& at : Admission::listening())
      if (at.fd == socket.fd()) number = at.port;
    EXPECT_NE(number, 0);
    address = {std::byte{1}, static_cast<std::byte>(number >> 8), static_cast<std::byte>(number)};
  }
};

std::vector<std::string> one(const std::string& host) { return {host}; }

TEST(Admission, StrangersNeverGetThroughAndAdmittedHostsDo) {
  const Port port;
  Admission lock({}, port.address);
  EXPECT_EQ(lock.why_open(), "");
  EXPECT_FALSE(lock.intruded());
  EXPECT_EQ(lock.hosts(), one("127.0.0.1"));
  EXPECT_FALSE(gets_through("127.0.0.1", port.number));  // not even this host
  lock.admit(1, one("127.0.0.8"));
  EXPECT_TRUE(gets_through("127.0.0.8", port.number));
  EXPECT_FALSE(gets_through("127.0.0.9", port.number));
  EXPECT_FALSE(gets_through("127.0.0.1", port.number));
}

TEST(Admission, HoldersComeAndGo) {
  const Port port;
  Admission lock({}, port.address);
  lock.admit(1, one("127.0.0.8"));
  lock.admit(2, std::vector<std::string>{"127.0.0.8", "127.0.0.9"});
  lock.revoke(1);
  EXPECT_TRUE(gets_through("127.0.0.8", port.number));  // the other holder's, too
  lock.admit(2, one("127.0.0.9"));
  EXPECT_FALSE(gets_through("127.0.0.8", port.number));
  EXPECT_TRUE(gets_through("127.0.0.9", port.number));
  lock.revoke(2);
  lock.revoke(3);
  EXPECT_FALSE(gets_through("127.0.0.9", port.number));
}

TEST(Admission, AConnectionThatIsThereStays) {
  const Port port;
  Admission lock({}, port.address);
  lock.admit(1, one("127.0.0.8"));
  const Socket from = knock("127.0.0.8", "127.0.0.1", port.number);
  ASSERT_TRUE(gets_through(from));
  pollfd wait{port.socket.fd(), POLLIN, 0};
  ASSERT_EQ(poll(&wait, 1, 10'000), 1);
  const int accepted = accept4(port.socket.fd(), nullptr, nullptr, SOCK_CLOEXEC);
  ASSERT_GE(accepted, 0);
  lock.revoke(1);
  ASSERT_EQ(send(from.fd(), "x", 1, 0), 1);
  char got = 0;
  EXPECT_EQ(recv(accepted, &got, 1, 0), 1);
  close(accepted);
}

TEST(Admission, WhoKnockedTooEarlyGetsInWithTheNextTry) {
  const Port port;
  Admission lock({}, port.address);
  const Socket early = knock("127.0.0.8", "127.0.0.1", port.number);
  EXPECT_FALSE(gets_through(early));
  lock.admit(1, one("127.0.0.8"));
  EXPECT_TRUE(gets_through(early, 10'000));  // TCP repeats itself after a second
}

TEST(Admission, FiltersHoldManyHosts) {
  const Port port;
  Admission lock({}, port.address);
  std::vector<std::string> hosts;
  for (int i = 0; i < 1500; ++i)
    hosts.push_back("10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250));
  for (const std::string at : {"127.0.0.7", "127.0.0.8", "223.0.0.1"}) hosts.push_back(at);
  lock.admit(1, hosts);
  EXPECT_TRUE(gets_through("127.0.0.7", port.number));
  EXPECT_TRUE(gets_through("127.0.0.8", port.number));
  EXPECT_FALSE(gets_through("127.0.0.9", port.number));
  for (int i = 0; i < 4000; ++i)
    hosts.push_back("10.2." + std::to_string(i / 250) + "." + std::to_string(i % 250));
  EXPECT_THROW(lock.admit(2, hosts), Error);
  EXPECT_THROW(lock.admit(2, one("::1")), Error);
  EXPECT_TRUE(gets_through("127.0.0.8", port.number));  // as before
}

TEST(Admission, OnlyThePortsOfTheAddressAreLocked) {
  const Port before;
  const auto known = Admission::listening();
  const Port others, ours;
  auto address = ours.address;
  address.insert(address.end(), before.address.begin(), before.address.end());
  const Admission lock(known, address);
  EXPECT_FALSE(gets_through("127.0.0.1", ours.number));
  EXPECT_TRUE(gets_through("127.0.0.1", others.number));
  EXPECT_TRUE(gets_through("127.0.0.1", before.number));
  const Admission none(known, {});
  EXPECT_NE(none.why_open(), "");
}

TEST(Admission, WhoCameBeforeTheLockIsSeen) {
  const Port port;
  const Socket early = knock("127.0.0.9", "127.0.0.1", port.number);
  ASSERT_TRUE(gets_through(early));
  EXPECT_TRUE(Admission({}, port.address).intruded());
}

TEST(Admission, AWorkersPortsAreLocked) {
  const auto before = Admission::listening();
  Worker worker({"lo", "tcp"});
  EXPECT_EQ(worker.admission().why_open(), "");
  EXPECT_EQ(worker.admission().hosts(), one("127.0.0.1"));
  EXPECT_EQ(worker.transports(), one("tcp/lo"));
  const auto now = Admission::listening();
  ASSERT_EQ(now.size(), before.size() + 1);
  for (const Listener& at : now) {
    if (std::ranges::any_of(before, [&](const Listener& b) { return b.inode == at.inode; })) continue;
    EXPECT_FALSE(gets_through("127.0.0.9", at.port));
    EXPECT_FALSE(gets_through("127.0.0.1", at.port));
    worker.admission().admit(1, one("127.0.0.9"));
    EXPECT_TRUE(gets_through("127.0.0.9", at.port));
    EXPECT_FALSE(gets_through("127.0.0.1", at.port));
  }
}

}  // namespace
}  // namespace rudder::ucx
