#include "transport/ucx/context.h"

#include <algorithm>
#include <utility>

#include "transport/ucx/capabilities.h"

namespace rudder::ucx {
namespace {

// The calls used are those of this version, whatever headers are built against: an older library then serves
// as well, without a warning.
constexpr unsigned kApiMajor = 1, kApiMinor = 13;

void modify(ucp_config_t* config, const char* name, const std::string& value) {
  if (value.empty()) return;
  if (const auto status = ucp_config_modify(config, name, value.c_str()); status != UCS_OK) {
    ucp_config_release(config);
    refuse(ErrorCode::kConfig, std::string("UCX takes no ") + name + "=" + value, status);
  }
}

}  // namespace

std::string text_of(ucs_status_t status) { return ucs_status_string(status); }

void refuse(ErrorCode code, const std::string& what, ucs_status_t status) {
  throw Error(code, what + ": " + text_of(status));
}

std::string library_version() {
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

void Context::open(const WorkerConfig& config, std::uint64_t features) {
  ucp_config_t* settings = nullptr;
  if (const auto status = ucp_config_read(nullptr, nullptr, &settings); status != UCS_OK)
    refuse(ErrorCode::kConfig, "UCX's settings cannot be read (look at the UCX_* variables)", status);
  modify(settings, "NET_DEVICES", config.devices);
  modify(settings, "TLS", config.tls);
  // Gets that UCX would play by messages are worse than our own requests. 1.13 has no such setting, and would
  // complain.
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  if (features != 0 && !config.emulate_gets && std::pair(major, minor) > std::pair(kApiMajor, kApiMinor))
    (void)ucp_config_modify(settings, "PROTO_EMULATION_ENABLE", "n");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP | features;
  const auto opened = ucp_init_version(kApiMajor, kApiMinor, &params, settings, &context_);
  ucp_config_release(settings);
  if (opened != UCS_OK)
    refuse(ErrorCode::kTransport,
           "UCX finds no transport (UCX_TLS=" + config.tls + ", UCX_NET_DEVICES=" + config.devices + ")",
           opened);
}

Context::Context(const WorkerConfig& config) : emulates_(config.emulate_gets) {
  open(config, 0);
  transports_ = transports_of(context_);
  offloads_ = std::ranges::any_of(transports_, [](const auto& name) { return reads_memory(name); });
  if (offloads_ || emulates_) {
    close();
    open(config, UCP_FEATURE_RMA);
  } else {
    why_no_gets_ = "UCX finds no RDMA device";
  }
}

std::size_t Context::tcp_devices() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(transports_, [](const auto& name) { return name.starts_with("tcp/"); }));
}

void Context::close() {
  if (context_ == nullptr) return;
  for (const ucp_mem_h memory : std::exchange(exposed_, {})) ucp_mem_unmap(context_, memory);
  ucp_cleanup(std::exchange(context_, nullptr));
}

MemoryKey Context::expose(std::span<const std::byte> memory) {
  ucp_mem_map_params_t params{};
  params.field_mask =
      UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_PROT;
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): UCX only reads it, as `prot` says
  params.address = const_cast<std::byte*>(memory.data());
  params.length = memory.size();
  params.prot = UCP_MEM_MAP_PROT_LOCAL_READ | UCP_MEM_MAP_PROT_REMOTE_READ;
  ucp_mem_h handle = nullptr;
  if (const auto status = ucp_mem_map(context_, &params, &handle); status != UCS_OK)
    return {{}, "UCX registers no memory that can only be read: " + text_of(status)};
  exposed_.push_back(handle);
  void* key = nullptr;
  std::size_t size = 0;
  if (const auto status = ucp_rkey_pack(context_, handle, &key, &size); status != UCS_OK)
    return {{}, "UCX makes no key to memory: " + text_of(status)};
  const auto* bytes = static_cast<const std::byte*>(key);
  std::vector<std::byte> packed(bytes, bytes + size);
  ucp_rkey_buffer_release(key);
  return {std::move(packed), {}};
}

}  // namespace rudder::ucx
