#include "transport/ucx/wire.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <variant>
#include <vector>

namespace rudder::wire {
namespace {

template <class T>
Bytes bytes_of(const T& object) {
  return std::as_bytes(std::span(&object, 1));
}

RequestHeader header(std::uint32_t rows, std::uint32_t index_bytes) {
  RequestHeader h;
  h.rows = rows;
  h.row_bytes = 8;
  h.index_bytes = index_bytes;
  return h;
}

TEST(Wire, RowNumbersComeBackWhateverTheirSize) {
  for (const std::vector<std::int64_t>& rows :
       {std::vector<std::int64_t>{0, 5, 0xffffffff}, {0, std::int64_t{1} << 32}, {-1, 3}}) {
    std::uint32_t index_bytes = 0;
    const auto body = encode_rows(rows, index_bytes);
    EXPECT_EQ(index_bytes, rows[1] == 5 ? 4u : 8u);
    const auto h = header(static_cast<std::uint32_t>(rows.size()), index_bytes);
    const auto parsed = parse_request(bytes_of(h), body);
    ASSERT_TRUE(std::holds_alternative<Request>(parsed)) << std::get<std::string>(parsed);
    EXPECT_EQ(std::get<Request>(parsed).rows, rows);
  }
}

TEST(Wire, EveryFieldIsChecked) {
  const std::vector<std::byte> body(4 * 8);
  ASSERT_TRUE(std::holds_alternative<Request>(parse_request(bytes_of(header(8, 4)), body)));
  auto why = [&](RequestHeader h, std::size_t body_size = 32) {
    const auto parsed = parse_request(bytes_of(h), Bytes(body).first(body_size));
    return std::holds_alternative<std::string>(parsed) ? std::get<std::string>(parsed) : std::string("taken");
  };
  RequestHeader h = header(8, 4);
  h.magic = 1;
  EXPECT_EQ(why(h), "not a message of rudder");
  h = header(8, 4);
  h.version = 2;
  EXPECT_EQ(why(h), "version 2 of the protocol, this is version 1");
  h = header(8, 4);
  h.row_bytes = 0;
  EXPECT_EQ(why(h), "rows of no bytes");
  EXPECT_EQ(why(header(0, 4)), "0 rows in one request, 1 to 16384 are allowed");
  EXPECT_EQ(why(header(kMaxRows + 1, 4)), "16385 rows in one request, 1 to 16384 are allowed");
  EXPECT_EQ(why(header(8, 5)), "row numbers of 5 bytes");
  EXPECT_EQ(why(header(8, 8)), "32 bytes of row numbers for 8 rows");
  EXPECT_EQ(why(header(8, 4), 31), "31 bytes of row numbers for 8 rows");
  const auto short_header = parse_request(bytes_of(h).first(55), body);
  EXPECT_TRUE(std::holds_alternative<std::string>(short_header));
  EXPECT_TRUE(std::holds_alternative<std::string>(parse_request({}, {})));
  EXPECT_TRUE(std::holds_alternative<std::string>(parse_chunk(bytes_of(h))));  // a request is no chunk
}

TEST(Wire, ARefusalsTextIsBoundedAndPrintable) {
  std::vector<std::byte> text(kMaxMessage * 3, std::byte{0x1b});
  text[0] = std::byte{'a'};
  const RefusalHeader h;
  const auto parsed = parse_refusal(bytes_of(h), text);
  const std::string& message = std::get<Refusal>(parsed).message;
  EXPECT_EQ(message.size(), kMaxMessage);
  EXPECT_EQ(message.substr(0, 3), "a??");
}

TEST(Wire, TokensDifferInAnyByte) {
  Token a{};
  EXPECT_TRUE(same(a, Token{}));
  for (std::size_t i = 0; i < a.size(); ++i) {
    Token b{};
    b[i] = std::byte{0x80};
    EXPECT_FALSE(same(a, b));
  }
}

// Bytes of all kinds: random, and valid messages with some bytes changed, cut or grown. Parsing must take or
// refuse each without reading outside of it; the address sanitizer watches. RUDDER_FUZZ_ROUNDS makes it
// longer.
TEST(Wire, SurvivesGarbage) {
  const char* rounds_text = std::getenv("RUDDER_FUZZ_ROUNDS");
  const std::uint64_t rounds = rounds_text != nullptr ? std::strtoull(rounds_text, nullptr, 10) : 200'000;
  const unsigned seed = 7;
  RecordProperty("seed", seed);
  std::mt19937_64 random(seed);
  std::uint64_t taken = 0, answers = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    std::uint32_t index_bytes = 0;
    const std::vector<std::int64_t> rows(1 + random() % 20,
                                         static_cast<std::int64_t>(random() >> (random() % 64)));
    std::vector<std::byte> body = encode_rows(rows, index_bytes);
    RequestHeader h = header(static_cast<std::uint32_t>(rows.size()), index_bytes);
    std::vector<std::byte> head(sizeof(h));
    std::memcpy(head.data(), &h, sizeof(h));
    for (std::size_t changes = random() % 4; changes > 0; --changes)
      head[random() % head.size()] = static_cast<std::byte>(random());
    if (random() % 8 == 0) head.resize(random() % 80);
    if (random() % 8 == 0) body.resize(random() % 200);
    // Exactly as long as it says: reading beyond the end is seen.
    const std::vector<std::byte> exact_head(head), exact_body(body);
    if (const auto parsed = parse_request(exact_head, exact_body); std::holds_alternative<Request>(parsed)) {
      ++taken;
      const Request& request = std::get<Request>(parsed);
      ASSERT_EQ(request.rows.size(), request.header.rows);
      ASSERT_LE(request.rows.size(), kMaxRows);
      ASSERT_EQ(exact_body.size(), request.rows.size() * request.header.index_bytes);
    }
    // What a server answers with begins alike, and is as long in either case.
    static_assert(sizeof(ChunkHeader) == sizeof(RefusalHeader));
    const ChunkHeader chunk{.rows = 1, .request = round};
    std::vector<std::byte> answer(sizeof(chunk));
    std::memcpy(answer.data(), &chunk, sizeof(chunk));
    for (std::size_t changes = random() % 3; changes > 0; --changes)
      answer[random() % answer.size()] = static_cast<std::byte>(random());
    if (random() % 8 == 0) answer.resize(random() % 80);
    const std::vector<std::byte> exact_answer(answer);
    const auto parsed = parse_refusal(exact_answer, exact_body);
    ASSERT_EQ(std::holds_alternative<ChunkHeader>(parse_chunk(exact_answer)),
              std::holds_alternative<Refusal>(parsed));
    if (const auto* refusal = std::get_if<Refusal>(&parsed)) {
      ++answers;
      ASSERT_EQ(exact_answer.size(), sizeof(RefusalHeader));
      ASSERT_LE(refusal->message.size(), std::min(exact_body.size(), kMaxMessage));
      ASSERT_TRUE(std::ranges::all_of(refusal->message, [](char c) { return c >= ' ' && c <= '~'; }));
    }
  }
  for (const std::uint64_t count : {taken, answers}) {
    EXPECT_GT(count, 0u);
    EXPECT_LT(count, rounds);
  }
}

}  // namespace
}  // namespace rudder::wire
