// The lock of UCX's ports, with real sockets on the loopback network, all of whose addresses are this host's.
#include "transport/ucx/admission.h"

#include <arpa/inet.h>
#include <fcntl.h>
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
    for (const Listener& at : listening())
      if (at.fd == socket.fd()) number = at.port;
    EXPECT_NE(number, 0);
    address = {std::byte{1}, static_cast<std::byte>(number >> 8), static_cast<std::byte>(number)};
  }
};

std::vector<std::string> one(const std::string& host) { return {host}; }

TEST(Admission, StrangersNeverGetThroughAndAdmittedHostsDo) {
  const Port port;
  Admission lock({}, port.address, 1);
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
  Admission lock({}, port.address, 1);
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
  Admission lock({}, port.address, 1);
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
  Admission lock({}, port.address, 1);
  const Socket early = knock("127.0.0.8", "127.0.0.1", port.number);
  EXPECT_FALSE(gets_through(early));
  lock.admit(1, one("127.0.0.8"));
  EXPECT_TRUE(gets_through(early, 10'000));  // TCP repeats itself after a second
}

TEST(Admission, FiltersHoldManyHosts) {
  const Port port;
  Admission lock({}, port.address, 1);
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
  const auto known = listening();
  const Port others, ours;
  auto address = ours.address;
  address.insert(address.end(), before.address.begin(), before.address.end());
  const Admission lock(known, address, 1);
  EXPECT_EQ(lock.why_open(), "");
  EXPECT_FALSE(gets_through("127.0.0.1", ours.number));
  EXPECT_TRUE(gets_through("127.0.0.1", others.number));
  EXPECT_TRUE(gets_through("127.0.0.1", before.number));
}

TEST(Admission, PortsThatAreNotFoundAreTold) {
  const Port port;
  EXPECT_NE(Admission({}, {}, 1).why_open(), "");
  const Admission half({}, port.address, 2);
  EXPECT_EQ(half.why_open(), "of 2 ports that UCX should listen at, 1 were found");
  EXPECT_FALSE(gets_through("127.0.0.1", port.number));  // what was found is locked all the same
}

TEST(Admission, WhoCameBeforeTheLockIsSeen) {
  const Port port;
  const Socket early = knock("127.0.0.9", "127.0.0.1", port.number);
  ASSERT_TRUE(gets_through(early));
  EXPECT_TRUE(Admission({}, port.address, 1).intruded());
}

// Ends a connection at once, without a farewell: the other side's end of it is in no table any more.
void reset(const Socket& from) {
  const linger none{.l_onoff = 1, .l_linger = 0};
  ASSERT_EQ(setsockopt(from.fd(), SOL_SOCKET, SO_LINGER, &none, sizeof(none)), 0);
  const sockaddr unspecified{.sa_family = AF_UNSPEC, .sa_data = {}};
  ASSERT_EQ(connect(from.fd(), &unspecified, sizeof(unspecified)), 0);
}

TEST(Admission, WhoCameAndWentBeforeTheLockIsSeen) {
  for (const bool accepts : {false, true}) {
    const Port port;
    const Socket early = knock("127.0.0.9", "127.0.0.1", port.number);
    ASSERT_TRUE(gets_through(early));
    pollfd wait{port.socket.fd(), POLLIN, 0};
    ASSERT_EQ(poll(&wait, 1, 10'000), 1);
    int accepted = -1;  // as UCX's own thread may have done
    if (accepts) {
      accepted = accept4(port.socket.fd(), nullptr, nullptr, SOCK_CLOEXEC);
      ASSERT_GE(accepted, 0);
    }
    reset(early);
    EXPECT_TRUE(Admission({}, port.address, 1).intruded()) << accepts;
    if (accepted >= 0) close(accepted);
  }
}

TEST(Admission, OnceClosedItTouchesNoDescriptor) {
  const Port port;
  Admission lock({}, port.address, 1);
  lock.admit(1, one("127.0.0.8"));
  lock.close();
  // Somebody else's socket gets the number of the one that is gone.
  const Port other;
  ASSERT_GE(dup3(other.socket.fd(), port.socket.fd(), O_CLOEXEC), 0);
  lock.admit(2, one("127.0.0.9"));
  lock.revoke(1);
  EXPECT_TRUE(gets_through("127.0.0.1", other.number));
  EXPECT_EQ(lock.hosts(), one("127.0.0.1"));
}

TEST(Admission, AWorkersPortsAreLocked) {
  const auto before = listening();
  Worker worker({"lo", "tcp"});
  EXPECT_EQ(worker.admission().why_open(), "");
  EXPECT_EQ(worker.admission().hosts(), one("127.0.0.1"));
  EXPECT_EQ(worker.context().transports(), one("tcp/lo"));
  const auto now = listening();
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

TEST(Admission, AWorkersLockOutlivesItsPorts) {
  Worker worker({"lo", "tcp"});
  worker.start([] { return std::nullopt; });
  worker.admission().admit(1, one("127.0.0.9"));
  const auto before = listening().size();
  worker.stop(nullptr);
  EXPECT_EQ(listening().size(), before - 1);  // UCX's end is not put off
  worker.admission().admit(2, one("127.0.0.8"));
  worker.admission().revoke(1);
  EXPECT_EQ(worker.admission().hosts(), one("127.0.0.1"));
  EXPECT_EQ(worker.admission().why_open(), "");
}

}  // namespace
}  // namespace rudder::ucx
