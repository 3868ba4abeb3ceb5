// Typed errors. Every error says what was wrong and what to do; `where` is file:line of the throw.
// The bindings map each code to one Python exception of rudder.errors.
#pragma once

#include <cstdint>
#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

namespace rudder {

enum class ErrorCode {
  kConfig,       // a setting that can't work (capacity, dtype, shapes)
  kOutOfRange,   // an id outside its table
  kOutOfMemory,  // an arena could not be had
  kTransport,    // a peer answered with an error, or can't be reached
  kDeadline,     // a peer did not answer in time
  kClosed,       // used after close
  kState,        // calls in an order the interface rules out
  kFormat,       // a file or frame that can't be read
  kDevice,       // a GPU reported an error
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& what, std::source_location where = std::source_location::current())
      : std::runtime_error(what), code_(code), where_(where) {}

  ErrorCode code() const noexcept { return code_; }
  // "file.cc:12", for logs.
  std::string where() const;

 private:
  ErrorCode code_;
  std::source_location where_;
};

// Rows that could not be fetched: names the partition and some of the ids, so that a user can tell
// which machine to look at.
class FetchError : public Error {
 public:
  // `place`: where the rows come from, as Transport::place has it.
  FetchError(ErrorCode code, const std::string& what, std::int32_t part, std::vector<std::int64_t> ids,
             std::string place = {}, std::source_location where = std::source_location::current())
      : Error(code, what, where), part_(part), ids_(std::move(ids)), place_(std::move(place)) {}

  std::int32_t part() const noexcept { return part_; }
  const std::vector<std::int64_t>& ids() const noexcept { return ids_; }
  const std::string& place() const noexcept { return place_; }

 private:
  std::int32_t part_;
  std::vector<std::int64_t> ids_;
  std::string place_;
};

// An error on its way to another thread: a value that every waiting caller raises as an exception of its own
// (one exception object shared by several threads would be changed and freed under each other's eyes).
struct Failure {
  ErrorCode code = ErrorCode::kState;
  std::string message;
  std::int32_t part = -1;         // -1: not about a partition
  std::vector<std::int64_t> ids;  // some of the rows that could not be fetched
  std::string place;              // where they come from; empty where that is not known

  // What is being thrown at the moment. REQUIRES a call inside a catch block.
  static std::shared_ptr<const Failure> current();
  // Throws Error, or FetchError where a partition is named.
  [[noreturn]] void raise() const;
};
using FailurePtr = std::shared_ptr<const Failure>;

}  // namespace rudder
