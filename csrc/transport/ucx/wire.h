// What client and feature server say to each other, as UCP active messages: a request names rows of a table
// and is answered by one chunk of those rows, or by a refusal. Little-endian. Both ends must be admitted by
// the door first; the token proves it in every message, either way.
//
// Parsing trusts nothing: every length and count is checked before anything is read or allocated.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "transport/transport.h"

namespace rudder::wire {

static_assert(std::endian::native == std::endian::little, "the wire format is that of the machine");

inline constexpr std::uint16_t kMagic = 0x5552;  // "RU"
inline constexpr std::uint16_t kVersion = 1;

// Active message ids.
inline constexpr unsigned kRequest = 1;
inline constexpr unsigned kChunk = 2;
inline constexpr unsigned kRefusal = 3;

// Bounds what a client can make the server hold: row numbers of a request, and requests not yet answered.
inline constexpr std::uint32_t kMaxRows = 16384;
inline constexpr std::size_t kMaxRequests = 256;
inline constexpr std::size_t kMaxQueuedRows = std::size_t{32} << 20;  // of all clients of a server
inline constexpr std::size_t kMaxMessage = 512;                       // bytes of a refusal's text

using Token = std::array<std::byte, 16>;

// For a client's one-sided gets: where a table is in the server's memory, and UCX's key to it; or why there
// is none. It is for reading that table alone.
struct Offer {
  std::uint64_t address = 0;
  std::vector<std::byte> key;
  std::string why_not;
};

// Takes the same time wherever the difference is.
bool same(const Token& a, const Token& b);

// Then `rows` row numbers of `index_bytes` (4 or 8) each.
struct RequestHeader {
  std::uint16_t magic = kMagic;
  std::uint16_t version = kVersion;
  TableId table = 0;
  std::uint64_t session = 0;
  Token token{};
  std::uint64_t request = 0;
  std::uint32_t rows = 0;
  std::uint32_t row_bytes = 0;
  std::uint32_t index_bytes = 4;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(RequestHeader) == 56);

// Then rows * row_bytes bytes.
struct ChunkHeader {
  std::uint16_t magic = kMagic;
  std::uint16_t version = kVersion;
  std::uint32_t rows = 0;
  std::uint64_t request = 0;
  Token token{};
};
static_assert(sizeof(ChunkHeader) == 32);

// Then a text of at most kMaxMessage bytes.
struct RefusalHeader {
  std::uint16_t magic = kMagic;
  std::uint16_t version = kVersion;
  std::uint32_t reserved = 0;
  std::uint64_t request = 0;
  Token token{};
};
static_assert(sizeof(RefusalHeader) == 32);

using Bytes = std::span<const std::byte>;

struct Request {
  RequestHeader header;
  std::vector<std::int64_t> rows;  // not yet checked against a table
};

// Each answers with the message, or with why it is none.
template <class T>
using Parsed = std::variant<T, std::string>;

Parsed<Request> parse_request(Bytes header, Bytes body);
Parsed<ChunkHeader> parse_chunk(Bytes header);
struct Refusal {
  RefusalHeader header;
  std::string message;  // printable
};
Parsed<Refusal> parse_refusal(Bytes header, Bytes body);

// Row numbers as the body of a request; 4 bytes each where all of them fit.
std::vector<std::byte> encode_rows(std::span<const std::int64_t> rows, std::uint32_t& index_bytes);

}  // namespace rudder::wire
