// What nccl_api.h declares by itself is what nccl.h says; checked by the compiler, where that header is.
#include "transport/nccl/nccl_api.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <type_traits>

#if __has_include(<nccl.h>) && __has_include(<cuda_runtime.h>)
#include <nccl.h>

namespace rudder::nccl {
namespace {

// Enumerators are ints, handles pointers, in NCCL's C interface and ours.
template <class Ours, class Theirs>
inline constexpr bool kAlike =
    std::is_same_v<Ours, Theirs> || (sizeof(Ours) == sizeof(Theirs) && std::is_enum_v<Theirs>) ||
    (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) ||
    (std::is_same_v<Ours, UniqueId> && std::is_same_v<Theirs, ncclUniqueId>);

template <class Ours, class Theirs>
struct Same : std::false_type {};
template <class OurResult, class... Ours, class TheirResult, class... Theirs>
struct Same<OurResult (*)(Ours...), TheirResult(Theirs...)>
    : std::bool_constant<kAlike<OurResult, TheirResult> && (kAlike<Ours, Theirs> && ...)> {};

static_assert(int{kSuccess} == int{ncclSuccess} && int{kInProgress} == int{ncclInProgress});
static_assert(int{kInt8} == int{ncclInt8} && int{kInt64} == int{ncclInt64});
static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId));
static_assert(offsetof(CommConfig, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(CommConfig, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(CommConfig, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(offsetof(CommConfig, cga_cluster_size) == offsetof(ncclConfig_t, cgaClusterSize));
static_assert(offsetof(CommConfig, min_ctas) == offsetof(ncclConfig_t, minCTAs));
static_assert(offsetof(CommConfig, max_ctas) == offsetof(ncclConfig_t, maxCTAs));
static_assert(offsetof(CommConfig, net_name) == offsetof(ncclConfig_t, netName));
static_assert(sizeof(CommConfig) == offsetof(ncclConfig_t, netName) + sizeof(const char*));
static_assert(Same<decltype(Api::get_version), decltype(ncclGetVersion)>::value);
static_assert(Same<decltype(Api::get_unique_id), decltype(ncclGetUniqueId)>::value);
static_assert(Same<decltype(Api::comm_init_rank_config), decltype(ncclCommInitRankConfig)>::value);
static_assert(Same<decltype(Api::comm_finalize), decltype(ncclCommFinalize)>::value);
static_assert(Same<decltype(Api::comm_destroy), decltype(ncclCommDestroy)>::value);
static_assert(Same<decltype(Api::comm_abort), decltype(ncclCommAbort)>::value);
static_assert(Same<decltype(Api::comm_get_async_error), decltype(ncclCommGetAsyncError)>::value);
static_assert(Same<decltype(Api::get_error_string), decltype(ncclGetErrorString)>::value);
static_assert(Same<decltype(Api::get_last_error), decltype(ncclGetLastError)>::value);
static_assert(Same<decltype(Api::group_start), decltype(ncclGroupStart)>::value);
static_assert(Same<decltype(Api::group_end), decltype(ncclGroupEnd)>::value);
static_assert(Same<decltype(Api::send), decltype(ncclSend)>::value);
static_assert(Same<decltype(Api::recv), decltype(ncclRecv)>::value);

TEST(NcclApi, IsThatOfItsHeader) { EXPECT_EQ(CommConfig{}.magic, unsigned{NCCL_API_MAGIC}); }

}  // namespace
}  // namespace rudder::nccl
#else
TEST(NcclApi, IsThatOfItsHeader) {
  GTEST_SKIP() << "nccl.h or cuda_runtime.h was not found when the tests were built";
}
#endif
