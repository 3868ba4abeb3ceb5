#include "fetch/fetch_engine.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <set>
#include <utility>

#include "common/error.h"

namespace rudder {
namespace {

// How many ids of a failed fetch an error carries: enough to find the rows, not a log line of a megabyte.
constexpr std::size_t kIdsInError = 8;
constexpr std::chrono::nanoseconds kLongestPause = std::chrono::minutes(10);

// Several engines (one per table) may share a transport, so tickets are unique in the process.
std::atomic<Ticket> tickets{1};

// "ucx from 10.0.0.2:7000", for messages: which machine a user has to look at.
std::string source_of(const Transport& transport, const std::vector<Gather>& gathers) {
  std::set<std::string> places;
  for (const Gather& gather : gathers) places.insert(transport.place(gather.peer));
  places.erase("");
  std::string text = transport.name();
  const char* before = " from ";
  for (const std::string& place : places) text += std::exchange(before, " or ") + place;
  return text;
}

}  // namespace

class FetchEngine::Inbox final : public CompletionSink {
 public:
  struct Order {
    FetchId id;
    std::vector<Gather> gathers;
  };
  struct Mail {
    std::deque<Order> orders;
    std::deque<Completion> completions;
    bool stop = false;
  };

  void complete(Completion completion) override {
    const std::lock_guard lock(mutex_);
    mail_.completions.push_back(std::move(completion));
    wake_.notify_one();
  }
  void order(Order order) {
    const std::lock_guard lock(mutex_);
    mail_.orders.push_back(std::move(order));
    wake_.notify_one();
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    mail_.stop = true;
    wake_.notify_one();
  }
  Mail wait(std::optional<Clock::time_point> until) {
    std::unique_lock lock(mutex_);
    const auto any = [this] { return mail_.stop || !mail_.orders.empty() || !mail_.completions.empty(); };
    if (until)
      wake_.wait_until(lock, *until, any);
    else
      wake_.wait(lock, any);
    Mail mail = std::move(mail_);
    mail_ = Mail{};
    mail_.stop = mail.stop;
    return mail;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  Mail mail_;
};

FetchEngine::FetchEngine(FetchConfig config, Done done)
    : table_(config.table),
      row_bytes_(config.row_bytes),
      part_starts_(std::move(config.part_starts)),
      done_(std::move(done)),
      inbox_(std::make_shared<Inbox>()),
      deadline_(config.deadline),
      pause_(config.pause) {
  if (config.deadline <= std::chrono::nanoseconds(0))
    throw Error(ErrorCode::kConfig, "the deadline must be positive");
  for (std::size_t part = 0; part < config.routes.size(); ++part) {
    Ladder ladder;
    std::string why;
    for (auto& route : config.routes[part]) {
      const Transport::Reach reach = route->reach(static_cast<PartId>(part), table_, row_bytes_);
      if (reach.possible)
        ladder.routes.push_back(std::move(route));
      else
        why += (why.empty() ? "" : "; ") + route->name() + ": " + reach.why_not;
    }
    if (ladder.routes.empty() && !why.empty())
      throw Error(ErrorCode::kConfig, "no transport reaches partition " + std::to_string(part) + ": " + why);
    ladder.why = why;
    ladders_.push_back(std::move(ladder));
  }
  thread_ = std::thread([this] { progress(); });
}

FetchEngine::~FetchEngine() { close(); }

void FetchEngine::fetch(FetchId id, std::vector<Gather> gathers) { inbox_->order({id, std::move(gathers)}); }

void FetchEngine::progress() {
  for (;;) {
    std::optional<Clock::time_point> due;
    for (const auto& [ticket, attempt] : attempts_) due = std::min(due.value_or(attempt.due), attempt.due);
    Inbox::Mail mail = inbox_->wait(due);
    if (mail.stop) break;
    for (const Completion& completion : mail.completions) settle(completion.ticket, completion);
    for (Inbox::Order& order : mail.orders) {
      fetches_.emplace(order.id, Fetch{});
      climb(order.gathers);
      start(order.id, std::move(order.gathers), Grouping::kByTransport, deadline_);
    }
    const auto now = Clock::now();
    for (Attempt& attempt : withdraw([now](const Attempt& each) { return each.due <= now; })) {
      if (!fetches_.contains(attempt.fetch)) continue;  // it failed meanwhile
      const std::string who = source_of(*attempt.transport, attempt.gathers);
      demote(std::move(attempt), ErrorCode::kDeadline, who + " did not answer within the deadline");
    }
  }
  withdraw([](const Attempt&) { return true; });
}

std::vector<FetchEngine::Attempt> FetchEngine::withdraw(const std::function<bool(const Attempt&)>& which) {
  std::vector<Attempt> taken;
  std::map<std::shared_ptr<Transport>, std::vector<Ticket>> withdrawn;
  for (auto it = attempts_.begin(); it != attempts_.end();) {
    if (!which(it->second)) {
      ++it;
      continue;
    }
    withdrawn[it->second.transport].push_back(it->first);
    taken.push_back(std::move(it->second));
    it = attempts_.erase(it);
  }
  for (const auto& [transport, late] : withdrawn) transport->cancel_all(late);
  return taken;
}

void FetchEngine::start(FetchId id, std::vector<Gather> gathers, Grouping grouping,
                        std::chrono::nanoseconds budget) {
  // By transport where one call serves several peers, of those with as many routes left, since the time is
  // shared out among these; elsewhere by partition, so that a peer which does not answer is the only one to
  // be blamed.
  struct Group {
    std::shared_ptr<Transport> transport;
    std::vector<Gather> gathers;
    std::size_t routes;  // this one, and those that may have to follow
  };
  std::vector<Group> groups;
  {
    const std::lock_guard lock(ladders_mutex_);
    for (Gather& gather : gathers) {
      const Ladder& ladder = ladders_[static_cast<std::size_t>(value(gather.peer))];
      const auto& transport = ladder.routes[ladder.now];
      const std::size_t routes = ladder.routes.size() - ladder.now;
      auto group = std::ranges::find_if(
          groups, [&](const Group& each) { return each.transport == transport && each.routes == routes; });
      if (group == groups.end() || grouping == Grouping::kByPartition || !transport->merges_peers())
        group = groups.insert(groups.end(), Group{transport, {}, routes});
      group->gathers.push_back(std::move(gather));
    }
  }
  Fetch& fetch = fetches_.at(id);
  fetch.open += groups.size();
  const auto now = Clock::now();
  for (auto& [transport, group, routes] : groups) {
    const Ticket ticket = tickets.fetch_add(1, std::memory_order_relaxed);
    const auto due = now + budget / static_cast<std::int64_t>(routes);
    attempts_.emplace(ticket, Attempt{id, transport, group, now, due, budget});
    transport->submit(ticket, std::move(group), inbox_);
  }
}

void FetchEngine::settle(Ticket ticket, const Completion& completion) {
  auto node = attempts_.extract(ticket);
  if (node.empty()) return;  // cancelled while its completion was on the way
  Attempt& attempt = node.mapped();
  if (completion.status == CompletionStatus::kFailed) {
    const std::string who = source_of(*attempt.transport, attempt.gathers);
    demote(std::move(attempt), ErrorCode::kTransport, who + ": " + completion.message);
    return;
  }
  const auto fetch = fetches_.find(attempt.fetch);
  if (--fetch->second.open == 0) {
    fetches_.erase(fetch);
    done_(attempt.fetch, nullptr);
  }
}

void FetchEngine::demote(Attempt attempt, ErrorCode code, const std::string& why) {
  // What its cancelling took is not taken from those that follow: they could not answer at all otherwise.
  const auto left = attempt.budget - (std::min(Clock::now(), attempt.due) - attempt.began);
  if (code == ErrorCode::kTransport && attempt.gathers.size() > 1) {
    // One of several peers failed. Asked one by one, the others answer, and the error names the right one.
    --fetches_.at(attempt.fetch).open;
    start(attempt.fetch, std::move(attempt.gathers), Grouping::kByPartition, left);
    return;
  }
  std::string who;
  for (const Gather& gather : attempt.gathers) {
    who += who.empty() ? "partition " : " or ";
    who += std::to_string(value(gather.peer));
  }
  FailurePtr error;
  {
    const std::lock_guard lock(ladders_mutex_);
    for (const Gather& gather : attempt.gathers) {
      const auto part = static_cast<std::size_t>(value(gather.peer));
      Ladder& ladder = ladders_[part];
      // An earlier fetch may have moved this partition to the next route already.
      if (ladder.routes[ladder.now] != attempt.transport) continue;
      if (ladder.now + 1 < ladder.routes.size()) {
        const auto shortest = code == ErrorCode::kDeadline ? std::max(pause_, 2 * deadline_) : pause_;
        ladder.pause = std::min(std::max(2 * ladder.pause, shortest), kLongestPause);
        ladder.again = Clock::now() + ladder.pause;
        ++ladder.now;
        ladder.why = why;
        continue;
      }
      std::vector<std::int64_t> ids;
      for (std::size_t i = 0; i < std::min(kIdsInError, gather.rows.size()); ++i)
        ids.push_back(part_starts_[part] + gather.rows[i]);
      std::string what = std::to_string(gather.rows.size());
      what.append(" rows of ").append(who).append(" could not be fetched: ").append(why);
      what.append("; no other transport is left for it");
      error = std::make_shared<const Failure>(Failure{code, std::move(what), static_cast<std::int32_t>(part),
                                                      std::move(ids), attempt.transport->place(gather.peer)});
      break;
    }
  }
  if (error) {
    fail(attempt.fetch, std::move(error));
    return;
  }
  --fetches_.at(attempt.fetch).open;
  start(attempt.fetch, std::move(attempt.gathers), Grouping::kByTransport, left);
}

void FetchEngine::climb(const std::vector<Gather>& gathers) {
  const std::lock_guard lock(ladders_mutex_);
  for (const Gather& gather : gathers) {
    Ladder& ladder = ladders_[static_cast<std::size_t>(value(gather.peer))];
    if (ladder.now == 0 || Clock::now() < ladder.again) continue;
    ladder.again = Clock::now() + pause_;
    for (std::size_t better = 0; better < ladder.now; ++better) {
      if (!ladder.routes[better]->reach(gather.peer, table_, row_bytes_).possible) continue;
      ladder.now = better;
      break;
    }
  }
}

void FetchEngine::fail(FetchId id, FailurePtr error) {
  withdraw([id](const Attempt& each) { return each.fetch == id; });
  fetches_.erase(id);
  done_(id, std::move(error));
}

std::vector<RouteState> FetchEngine::routes() const {
  const std::lock_guard lock(ladders_mutex_);
  std::vector<RouteState> states;
  for (const Ladder& ladder : ladders_) {
    RouteState state;
    if (!ladder.routes.empty()) state = {ladder.routes[ladder.now]->name(), ladder.now > 0, ladder.why};
    states.push_back(std::move(state));
  }
  return states;
}

void FetchEngine::close() {
  inbox_->stop();
  const std::lock_guard lock(joining_);
  if (thread_.joinable()) thread_.join();
}

}  // namespace rudder
