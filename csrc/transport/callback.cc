#include "transport/callback.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace rudder {
namespace {

// How long close() waits for a pull in progress. A live server answers in milliseconds; longer only delays
// the exit of a process whose server is gone.
constexpr std::chrono::seconds kCloseGrace{5};

struct Job {
  Ticket ticket = 0;
  std::vector<Gather> gathers;
  std::shared_ptr<CompletionSink> sink;
  bool cancelled = false;
};

}  // namespace

struct Callback::State {
  std::string name;
  Pull pull;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Job>> jobs;
  std::shared_ptr<Job> running;
  bool closed = false;
  bool exited = false;

  // Empty string: done.
  std::string run(Job& job) {
    std::vector<std::int64_t> parts, rows;
    std::size_t bytes = 0;
    for (const Gather& gather : job.gathers) {
      parts.insert(parts.end(), gather.rows.size(), value(gather.peer));
      rows.insert(rows.end(), gather.rows.begin(), gather.rows.end());
      bytes += gather.rows.size() * gather.row_bytes;
    }
    bool delivered = false;
    try {
      pull(job.gathers.front().table, parts, rows, [&](std::span<const std::byte> answer) {
        if (answer.size() != bytes) return false;
        const std::lock_guard lock(mutex);
        delivered = true;
        if (job.cancelled) return true;
        std::size_t at = 0;
        for (const Gather& gather : job.gathers) {
          const std::size_t size = gather.rows.size() * gather.row_bytes;
          if (size != 0) std::memcpy(gather.out, answer.data() + at, size);
          at += size;
        }
        return true;
      });
    } catch (const std::exception& error) {
      return error.what();
    }
    return delivered ? std::string{}
                     : "the " + name + " pull answered with another number of bytes than asked for";
  }
};

Callback::Callback(std::string name, Pull pull, std::vector<std::string> places)
    : name_(name), places_(std::move(places)), state_(std::make_shared<State>()) {
  state_->name = std::move(name);
  state_->pull = std::move(pull);
  std::thread([state = state_] { work(state); }).detach();
}

Callback::~Callback() { close(); }

std::string Callback::place(PartId peer) const {
  const auto part = static_cast<std::size_t>(value(peer));
  return part < places_.size() ? places_[part] : std::string{};
}

void Callback::submit(Ticket ticket, std::vector<Gather> gathers, std::shared_ptr<CompletionSink> sink) {
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->closed) {
      state_->jobs.push_back(std::make_shared<Job>(Job{ticket, std::move(gathers), std::move(sink), false}));
      state_->changed.notify_all();
      return;
    }
  }
  sink->complete({ticket, CompletionStatus::kFailed, "the " + name_ + " transport is closed"});
}

void Callback::cancel(Ticket ticket) {
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->jobs, [ticket](const auto& job) { return job->ticket == ticket; });
  if (state_->running && state_->running->ticket == ticket) state_->running->cancelled = true;
}

void Callback::work(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  for (;;) {
    state->changed.wait(lock, [&] { return state->closed || !state->jobs.empty(); });
    if (state->closed) break;
    const auto job = state->running = std::move(state->jobs.front());
    state->jobs.pop_front();
    lock.unlock();
    std::string why = state->run(*job);
    lock.lock();
    state->running = nullptr;
    if (!job->cancelled)
      job->sink->complete(
          {job->ticket, why.empty() ? CompletionStatus::kDone : CompletionStatus::kFailed, std::move(why)});
  }
  lock.unlock();
  state->pull = nullptr;  // here, while close() waits: what the function holds may end with its program
  lock.lock();
  state->exited = true;
  state->changed.notify_all();
}

void Callback::close() {
  std::unique_lock lock(state_->mutex);
  state_->closed = true;
  if (state_->running) state_->running->cancelled = true;
  state_->jobs.clear();
  state_->changed.notify_all();
  state_->changed.wait_for(lock, kCloseGrace, [this] { return state_->exited; });
}

}  // namespace rudder
