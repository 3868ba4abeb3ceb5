#include "transport/ucx/wire.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace rudder::wire {
namespace {

// Any header of this protocol, of another version too, starts like this.
template <class Header>
std::string read(Bytes bytes, Header& header) {
  struct Start {
    std::uint16_t magic, version;
  } start{};
  if (bytes.size() < sizeof(start)) return "a header of " + std::to_string(bytes.size()) + " bytes";
  std::memcpy(&start, bytes.data(), sizeof(start));
  if (start.magic != kMagic) return "not a message of rudder";
  if (start.version != kVersion)
    return "version " + std::to_string(start.version) + " of the protocol, this is version " +
           std::to_string(kVersion);
  if (bytes.size() != sizeof(Header)) return "a header of " + std::to_string(bytes.size()) + " bytes";
  std::memcpy(&header, bytes.data(), sizeof(Header));
  return {};
}

template <class Index>
void decode(Bytes body, std::vector<std::int64_t>& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Index index;
    std::memcpy(&index, body.data() + i * sizeof(Index), sizeof(Index));
    rows[i] = static_cast<std::int64_t>(index);
  }
}

}  // namespace

bool same(const Token& a, const Token& b) {
  std::byte difference{0};
  for (std::size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
  return difference == std::byte{0};
}

Parsed<Request> parse_request(Bytes header, Bytes body) {
  Request request;
  if (std::string why = read(header, request.header); !why.empty()) return why;
  const RequestHeader& h = request.header;
  if (h.rows == 0 || h.rows > kMaxRows)
    return std::to_string(h.rows) + " rows in one request, 1 to " + std::to_string(kMaxRows) + " are allowed";
  if (h.index_bytes != 4 && h.index_bytes != 8)
    return "row numbers of " + std::to_string(h.index_bytes) + " bytes";
  if (h.row_bytes == 0) return "rows of no bytes";
  if (body.size() != std::size_t{h.rows} * h.index_bytes)
    return std::to_string(body.size()) + " bytes of row numbers for " + std::to_string(h.rows) + " rows";
  request.rows.resize(h.rows);
  if (h.index_bytes == 4)
    decode<std::uint32_t>(body, request.rows);
  else
    decode<std::int64_t>(body, request.rows);
  return request;
}

Parsed<ChunkHeader> parse_chunk(Bytes header) {
  ChunkHeader chunk;
  if (std::string why = read(header, chunk); !why.empty()) return why;
  return chunk;
}

Parsed<Refusal> parse_refusal(Bytes header, Bytes body) {
  Refusal refusal;
  if (std::string why = read(header, refusal.header); !why.empty()) return why;
  const std::size_t size = std::min(body.size(), kMaxMessage);
  refusal.message.resize(size);
  for (std::size_t i = 0; i < size; ++i) {
    const auto c = static_cast<char>(body[i]);
    refusal.message[i] = c >= ' ' && c <= '~' ? c : '?';
  }
  return refusal;
}

std::vector<std::byte> encode_rows(std::span<const std::int64_t> rows, std::uint32_t& index_bytes) {
  const bool narrow = std::ranges::all_of(
      rows, [](std::int64_t row) { return row >= 0 && row <= std::numeric_limits<std::uint32_t>::max(); });
  index_bytes = narrow ? 4 : 8;
  std::vector<std::byte> body(rows.size() * index_bytes);
  if (!narrow) {
    std::memcpy(body.data(), rows.data(), body.size());
    return body;
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto index = static_cast<std::uint32_t>(rows[i]);
    std::memcpy(body.data() + i * sizeof(index), &index, sizeof(index));
  }
  return body;
}

}  // namespace rudder::wire
