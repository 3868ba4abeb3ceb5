// Keys to a peer's memory, as the peer may send them.
#include "transport/ucx/endpoint.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/error.h"
#include "transport/ucx/worker.h"

namespace rudder::ucx {
namespace {

// Memory that ends where nothing may be read any more.
class Brink {
 public:
  Brink() {
    base_ = static_cast<std::byte*>(
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(base_, MAP_FAILED);
    EXPECT_EQ(mprotect(base_ + page_, page_, PROT_NONE), 0);
  }
  ~Brink() { munmap(base_, 2 * page_); }
  Brink(const Brink&) = delete;
  Brink& operator=(const Brink&) = delete;
  std::span<const std::byte> end_with(std::span<const std::byte> bytes) {
    std::byte* at = base_ + page_ - bytes.size();
    std::ranges::copy(bytes, at);
    return {at, bytes.size()};
  }

 private:
  const std::size_t page_ = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  std::byte* base_ = nullptr;
};

class Keys : public testing::Test {
 protected:
  Worker peer_{{.devices = "lo", .tls = "tcp", .emulate_gets = true}};
  Worker worker_{{.devices = "lo", .tls = "tcp", .emulate_gets = true}};
  std::vector<std::byte> memory_ = std::vector<std::byte>(1 << 16);
  const MemoryKey key_ = peer_.expose(memory_);

  void SetUp() override {
    peer_.admission().admit(1, worker_.admission().hosts());
    worker_.admission().admit(1, peer_.admission().hosts());
    peer_.start([] { return std::nullopt; });
    worker_.start([] { return std::nullopt; });
  }
  void with_endpoint(const std::function<void(const Endpoint&)>& test) {
    worker_.call([&] {
      auto endpoint = std::make_unique<Endpoint>(worker_, peer_.address(), nullptr);
      test(*endpoint);
      worker_.close(std::move(endpoint), nullptr);
    });
  }
};

TEST_F(Keys, AreUnpacked) {
  EXPECT_EQ(key_.why_not, "");
  with_endpoint([&](const Endpoint& endpoint) { ucp_rkey_destroy(endpoint.unpack(key_.bytes)); });
}

TEST_F(Keys, NothingBehindOneThatWasCutIsRead) {
  Brink brink;
  with_endpoint([&](const Endpoint& endpoint) {
    for (std::size_t size = 1; size <= key_.bytes.size(); ++size) {
      const auto cut = brink.end_with(std::span(key_.bytes).first(size));
      try {
        ucp_rkey_destroy(endpoint.unpack(cut));
      } catch (const Error&) {
        EXPECT_LT(size, key_.bytes.size());  // UCX may refuse it
      }
    }
  });
}

TEST_F(Keys, OfAnImpossibleLengthAreRefused) {
  with_endpoint([&](const Endpoint& endpoint) {
    EXPECT_THROW(endpoint.unpack({}), Error);
    EXPECT_THROW(endpoint.unpack(std::vector<std::byte>(5000)), Error);
  });
}

}  // namespace
}  // namespace rudder::ucx
