// Copying a batch of rows out of the buffer, beside a plain memcpy gather of the same rows by the same
// threads in the same process. Goal: >= 80% of its speed. Run: make bench FILTER=Gather
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "prefetcher/prefetcher.h"
#include "transport/loopback.h"

namespace rudder {
namespace {

// Medians of alternating runs: the machine's mood hits both alike.
double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

void gather(benchmark::State& state) {
  const auto row_bytes = static_cast<std::size_t>(state.range(0));
  const auto threads = static_cast<std::size_t>(state.range(1));
  constexpr std::size_t kBatch = 50'000;
  // 256 MiB of rows: far beyond the caches.
  const std::size_t rows = (std::size_t{256} << 20) / row_bytes;
  std::vector<std::byte> table(rows * row_bytes);
  std::mt19937_64 random(4);
  for (std::size_t i = 0; i + 8 <= table.size(); i += 8) {
    const std::uint64_t word = random();
    std::memcpy(table.data() + i, &word, 8);
  }
  const auto loopback = std::make_shared<Loopback>();
  loopback->expose(PartId{1}, 0, table.data(), rows, row_bytes);
  PrefetcherConfig config;
  config.row_bytes = row_bytes;
  config.part_starts = {0, 0, static_cast<std::int64_t>(rows)};
  config.routes = {{}, {loopback}};
  config.policy = {.name = "lookahead", .capacity = rows, .prior = nullptr};
  config.threads = threads;
  Prefetcher prefetcher(config);
  std::vector<NodeId> all(rows);
  for (std::size_t i = 0; i < rows; ++i) all[i] = NodeId{static_cast<std::int64_t>(i)};
  prefetcher.take(prefetcher.submit(all, 0), std::chrono::nanoseconds::max());

  ThreadPool pool(threads);
  std::vector<NodeId> ids(kBatch);
  std::vector<std::byte> ours(kBatch * row_bytes), plain(kBatch * row_bytes);
  std::vector<double> our_times, plain_times;
  using Clock = std::chrono::steady_clock;
  const auto timed = [](auto&& body) {
    const auto began = Clock::now();
    body();
    return std::chrono::duration<double>(Clock::now() - began).count();
  };
  for (auto _ : state) {
    for (auto& id : ids) id = NodeId{static_cast<std::int64_t>(random() % rows)};
    const Seq seq = prefetcher.submit(ids, 0);
    prefetcher.take(seq, std::chrono::nanoseconds::max());
    const auto run_plain = [&] {
      plain_times.push_back(timed([&] {
        pool.split(kBatch, std::max<std::size_t>(1, (256 << 10) / row_bytes),
                   [&](std::size_t begin, std::size_t end) {
                     for (std::size_t i = begin; i < end; ++i)
                       std::memcpy(plain.data() + i * row_bytes,
                                   table.data() + static_cast<std::size_t>(value(ids[i])) * row_bytes,
                                   row_bytes);
                   });
      }));
    };
    const auto run_ours = [&] { our_times.push_back(timed([&] { prefetcher.gather(seq, ours); })); };
    if (our_times.size() % 2 == 0) {
      run_ours();
      run_plain();
    } else {
      run_plain();
      run_ours();
    }
    if (ours != plain) return state.SkipWithError("a row differs");
  }
  state.counters["ratio_to_memcpy"] = median(plain_times) / median(our_times);
  state.counters["GB_per_s"] = static_cast<double>(kBatch * row_bytes) / median(our_times) * 1e-9;
}

BENCHMARK(gather)
    ->Name("Gather")
    ->ArgNames({"row_bytes", "threads"})
    ->ArgsProduct({{256, 512, 1536, 4096}, {1, 2}})
    ->Iterations(41);

}  // namespace
}  // namespace rudder
