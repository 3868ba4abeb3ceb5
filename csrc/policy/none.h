// None: no buffer. Every remote row is fetched every time; the floor that the other policies are measured
// from.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_none(const PolicyConfig& config);

}  // namespace rudder
