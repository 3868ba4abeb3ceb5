#include "transport/ucx/capabilities.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace rudder::ucx {
namespace {

// UCX tells some things in print alone.
template <class Print>
std::vector<std::string> lines_of(const Print& print) {
  char* text = nullptr;
  std::size_t size = 0;
  FILE* const stream = open_memstream(&text, &size);
  if (stream == nullptr) return {};
  print(stream);
  std::fclose(stream);
  std::istringstream all(std::string(text, size));
  std::free(text);  // NOLINT(cppcoreguidelines-no-malloc): of open_memstream
  std::vector<std::string> lines;
  for (std::string line; std::getline(all, line);) lines.push_back(line);
  return lines;
}

}  // namespace

// "resource 0 : md 0 dev 0 flags -- tcp/lo".
std::vector<std::string> transports_of(ucp_context_h context) {
  std::vector<std::string> found;
  for (const std::string& line : lines_of([&](FILE* to) { ucp_context_print_info(context, to); })) {
    const auto at = line.find("-- ");
    if (line.find(" resource ") != std::string::npos && at != std::string::npos)
      found.push_back(line.substr(at + 3, line.find_last_not_of(' ') - at - 2));
  }
  return found;
}

bool reads_memory(const std::string& transport) {
  return transport.starts_with("rc_") || transport.starts_with("dc_");
}

bool reads_memory(ucp_ep_h endpoint) {
  // "lane[1]: 5:rc_mlx5/mlx5_0:1.1 md[4] -> md[4]/ib/sysdev[255] rma_bw#0 rma"
  for (const std::string& line : lines_of([&](FILE* to) { ucp_ep_print_info(endpoint, to); })) {
    std::istringstream words(line);
    bool lane = false, reads = false;
    for (std::string word; words >> word;) {
      lane = lane || word.starts_with("lane[");
      reads = reads || reads_memory(word.substr(word.find(':') + 1));
      if (lane && reads && (word == "rma" || word.starts_with("rma_bw"))) return true;
    }
  }
  return false;
}

}  // namespace rudder::ucx
