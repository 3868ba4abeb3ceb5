// What UCX can do here, as far as it tells. For the worker alone.
#pragma once

#include <ucp/api/ucp.h>

#include <string>
#include <vector>

namespace rudder::ucx {

// What a context may use between hosts: "tcp/eth0", "rc_mlx5/mlx5_0:1".
std::vector<std::string> transports_of(ucp_context_h context);

// Whether a transport reads and writes the other side's memory by itself: InfiniBand and RoCE, reliably or
// dynamically connected. Others copy, or (ud) cannot read.
bool reads_memory(const std::string& transport);
// Whether a connection has such a transport for it.
bool reads_memory(ucp_ep_h endpoint);

}  // namespace rudder::ucx
