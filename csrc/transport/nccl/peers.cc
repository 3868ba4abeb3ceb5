#include "transport/nccl/peers.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "common/error.h"

namespace rudder::nccl {
namespace {

// Of a reason that is passed on; a longer one is cut.
constexpr std::size_t kTextBytes = 1024;

// Of the host at a socket's other end; empty where it has none.
std::string host_of(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  std::array<char, NI_MAXHOST> host{};
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      (address.ss_family != AF_INET && address.ss_family != AF_INET6) ||
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host.data(), host.size(), nullptr, 0,
                  NI_NUMERICHOST) != 0)
    return {};
  return host.data();
}

}  // namespace

Peers::Peers(int rank, const std::vector<int>& sockets)
    : rank_(rank), peers_(sockets.size()), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  bool fine = wake_ >= 0;
  for (std::size_t p = 0; p < sockets.size(); ++p) {
    if (static_cast<int>(p) == rank) continue;
    peers_[p].socket = fcntl(sockets[p], F_DUPFD_CLOEXEC, 0);
    peers_[p].place = host_of(sockets[p]);
    fine = fine && fcntl(peers_[p].socket, F_SETFL, fcntl(peers_[p].socket, F_GETFL) | O_NONBLOCK) == 0;
  }
  if (fine) return;
  close();
  throw Error(ErrorCode::kTransport, "the sockets to the other ranks cannot be used");
}

Peers::~Peers() { close(); }

void Peers::close() noexcept {
  for (const Peer& peer : peers_)
    if (peer.socket >= 0) ::close(peer.socket);
  if (wake_ >= 0) ::close(wake_);
}

void Peers::agree(const Agreement& ours) {
  for (Peer& peer : peers_)
    say(peer, {Kind::kAgreement, 0, ours.row_bytes, static_cast<std::int64_t>(ours.layout), peers_.size()});
}

void Peers::wish(int peer, const Wish& wish) {
  say(peers_[static_cast<std::size_t>(peer)], {Kind::kWish, 0, wish.round, wish.rows, wish.done ? 1u : 0u});
}

void Peers::fail(int culprit, std::string_view why) {
  why = why.substr(0, kTextBytes);
  // Where others fail because of this rank, that is what is passed on.
  for (const Peer& peer : peers_)
    if (peer.failed && peer.culprit == rank_) culprit = rank_;
  for (Peer& peer : peers_)
    say(peer, {Kind::kFail, static_cast<std::uint32_t>(why.size()), 0, culprit, 0}, why);
}

void Peers::bye() {
  for (Peer& peer : peers_) say(peer, {Kind::kBye, 0, 0, 0, 0});
}

void Peers::ping() {
  for (Peer& peer : peers_) {
    peer.awaits_pong = peer.socket >= 0;
    say(peer, {Kind::kPing, 0, 0, 0, 0});
  }
}

void Peers::say(Peer& peer, Frame frame, std::string_view text) {
  if (peer.socket < 0 || peer.gone) return;
  peer.out.append(reinterpret_cast<const char*>(&frame), sizeof(frame)).append(text);
  flush(peer);
}

void Peers::flush(Peer& peer) {
  while (!peer.out.empty()) {
    const ssize_t sent = ::send(peer.socket, peer.out.data(), peer.out.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      peer.out.erase(0, static_cast<std::size_t>(sent));
    } else if (errno == EINTR) {
      continue;
    } else {
      if (errno != EAGAIN && errno != EWOULDBLOCK) peer.out.clear();  // read() finds that it is gone
      return;
    }
  }
}

void Peers::read(Peer& peer) {
  std::array<char, 4096> chunk{};
  while (true) {
    const ssize_t got = ::recv(peer.socket, chunk.data(), chunk.size(), 0);
    if (got > 0) {
      peer.in.append(chunk.data(), static_cast<std::size_t>(got));
      continue;
    }
    if (got < 0 && errno == EINTR) continue;
    if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) peer.gone = true;
    break;
  }
  std::size_t at = 0;
  while (peer.in.size() - at >= sizeof(Frame)) {
    Frame frame;
    std::memcpy(&frame, peer.in.data() + at, sizeof(frame));
    if (frame.text_bytes > kTextBytes) {
      peer.gone = true;  // not one of us
      peer.in.clear();
      return;
    }
    if (peer.in.size() - at < sizeof(frame) + frame.text_bytes) break;
    heard(peer, frame, std::string_view(peer.in).substr(at + sizeof(frame), frame.text_bytes));
    at += sizeof(frame) + frame.text_bytes;
  }
  peer.in.erase(0, at);
}

void Peers::heard(Peer& peer, const Frame& frame, std::string_view text) {
  switch (frame.kind) {
    case Kind::kAgreement:
      peer.agreement = {frame.first, static_cast<std::uint64_t>(frame.second)};
      peer.has_agreement = true;
      return;
    case Kind::kWish:
      peer.wishes.push_back({frame.first, frame.second, (frame.flags & 1) != 0});
      return;
    case Kind::kFail:
      peer.failed = true;
      peer.culprit = static_cast<int>(frame.second);
      peer.why = text;
      return;
    case Kind::kBye:
      peer.bye = true;
      return;
    case Kind::kPing:
      say(peer, {Kind::kPong, 0, 0, 0, 0});
      return;
    case Kind::kPong:
      peer.awaits_pong = false;
      return;
  }
}

void Peers::turn(std::chrono::nanoseconds wait) {
  std::vector<pollfd> polled{{wake_, POLLIN, 0}};
  std::vector<Peer*> whose{nullptr};
  for (Peer& peer : peers_) {
    if (peer.socket < 0 || peer.gone) continue;
    polled.push_back({peer.socket, static_cast<short>(peer.out.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    whose.push_back(&peer);
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
  const timespec limit{static_cast<std::time_t>(seconds.count()),
                       static_cast<long>((wait - seconds).count())};
  if (ppoll(polled.data(), polled.size(), &limit, nullptr) <= 0) return;
  if (polled[0].revents != 0) {
    eventfd_t woken = 0;
    eventfd_read(wake_, &woken);
  }
  for (std::size_t i = 1; i < polled.size(); ++i) {
    if ((polled[i].revents & POLLOUT) != 0) flush(*whose[i]);
    if ((polled[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) read(*whose[i]);
  }
}

void Peers::wake() const { eventfd_write(wake_, 1); }

std::string Peers::who(int peer) const {
  const std::string host = place(peer);
  return "rank " + std::to_string(peer) + (host.empty() ? "" : " at " + host);
}

std::string Peers::who(const std::vector<int>& peers) const {
  std::string text;
  for (const int peer : peers) text += (text.empty() ? "" : ", ") + who(peer);
  return text;
}

std::string Peers::place(int peer) const {
  return peer < 0 || peer >= count() ? std::string{} : peers_[static_cast<std::size_t>(peer)].place;
}

void Peers::check(bool needed) const {
  // What a rank says of its failure goes before the ends of connections that follow from it.
  for (int p = 0; p < count(); ++p) {
    const Peer& peer = peers_[static_cast<std::size_t>(p)];
    if (!peer.failed) continue;
    const int culprit = peer.culprit >= 0 && peer.culprit != rank_ ? peer.culprit : p;
    throw FetchError(ErrorCode::kTransport, who(p) + " gave up: " + peer.why, culprit, {}, place(culprit));
  }
  for (int p = 0; p < count(); ++p) {
    const Peer& peer = peers_[static_cast<std::size_t>(p)];
    if (peer.gone && !peer.bye)
      throw FetchError(ErrorCode::kTransport, who(p) + " is gone: its connection ended without a word", p, {},
                       peer.place);
    if (needed && peer.bye && peer.wishes.empty())
      throw FetchError(ErrorCode::kTransport,
                       who(p) +
                           " has closed its exchange, but every rank takes part in every round: one that has "
                           "no more minibatches calls drain()",
                       p, {}, peer.place);
  }
}

bool Peers::agreed(const Agreement& ours) const {
  for (int p = 0; p < count(); ++p) {
    const Peer& peer = peers_[static_cast<std::size_t>(p)];
    if (p == rank_) continue;
    if (!peer.has_agreement) return false;
    if (peer.agreement.row_bytes != ours.row_bytes)
      throw Error(ErrorCode::kConfig, who(p) + " has rows of " + std::to_string(peer.agreement.row_bytes) +
                                          " bytes, this one of " + std::to_string(ours.row_bytes));
    if (peer.agreement.layout != ours.layout)
      throw Error(ErrorCode::kConfig,
                  who(p) + " splits the table otherwise: part_starts must be the same on every rank");
  }
  return true;
}

bool Peers::wishes(std::uint64_t round) const {
  for (int p = 0; p < count(); ++p) {
    const Peer& peer = peers_[static_cast<std::size_t>(p)];
    if (p == rank_) continue;
    if (peer.wishes.empty()) return false;
    if (peer.wishes.front().round != round)
      throw FetchError(ErrorCode::kTransport,
                       who(p) + " is at round " + std::to_string(peer.wishes.front().round) +
                           ", this one at " + std::to_string(round),
                       p, {}, peer.place);
  }
  return true;
}

Peers::Wish Peers::take(int peer) {
  auto& wishes = peers_[static_cast<std::size_t>(peer)].wishes;
  const Wish wish = wishes.front();
  wishes.pop_front();
  return wish;
}

bool Peers::parted() const {
  return all([](const Peer& peer) { return !peer.bye && !peer.gone && !peer.failed && peer.wishes.empty(); })
      .empty();
}

std::vector<int> Peers::without_wish() const {
  return all([](const Peer& peer) { return peer.wishes.empty(); });
}

std::vector<int> Peers::silent() const {
  return all([](const Peer& peer) { return peer.awaits_pong; });
}

std::vector<int> Peers::all(bool (*which)(const Peer&)) const {
  std::vector<int> found;
  for (int p = 0; p < count(); ++p)
    if (p != rank_ && which(peers_[static_cast<std::size_t>(p)])) found.push_back(p);
  return found;
}

}  // namespace rudder::nccl
