// What every GPU runtime promises, whatever it is made of: runtime_contract_test.cc holds the tests. A new
// one's test is an instance of this suite.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/runtime.h"

namespace rudder::cuda {

struct Maker {
  const char* name;
  std::function<std::shared_ptr<Runtime>()> make;
};

class RuntimeContract : public testing::TestWithParam<Maker> {
 protected:
  static constexpr std::size_t kRows = 60, kWidth = 40;

  // Waits until all that the stream was given is done.
  void drain(Stream stream) {
    const Event event = gpu_->make_event();
    gpu_->record(event, stream);
    gpu_->wait(event);
    EXPECT_TRUE(gpu_->done(event));
    gpu_->destroy_event(event);
  }
  std::byte* pinned(std::size_t bytes) { return static_cast<std::byte*>(gpu_->host_allocate(bytes)); }
  std::byte* on_device(std::size_t bytes) { return static_cast<std::byte*>(gpu_->allocate(bytes)); }
  static std::byte byte_of(std::size_t row, std::size_t at) {
    return static_cast<std::byte>(row * 7 + at * 3);
  }
  static void fill(std::byte* table) {
    for (std::size_t row = 0; row < kRows; ++row)
      for (std::size_t at = 0; at < kWidth; ++at) table[row * kWidth + at] = byte_of(row, at);
  }
  template <typename Id>
  void expect_rows(const std::byte* out, const std::vector<Id>& rows) {
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::size_t at = 0; at < kWidth; ++at)
        ASSERT_EQ(out[i * kWidth + at], byte_of(static_cast<std::size_t>(rows[i]), at)) << "row " << i;
  }

  std::shared_ptr<Runtime> gpu_ = GetParam().make();
};

}  // namespace rudder::cuda
