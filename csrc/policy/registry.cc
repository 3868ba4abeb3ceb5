// The one list of policies: a name, who makes it, and in a line what it does. To add a policy, add its line.
#include <array>

#include "common/error.h"
#include "policy/fifo.h"
#include "policy/lfu.h"
#include "policy/lookahead.h"
#include "policy/lru.h"
#include "policy/none.h"
#include "policy/policy.h"
#include "policy/s3fifo.h"
#include "policy/score.h"
#include "policy/sieve.h"
#include "policy/static.h"
#include "policy/wtinylfu.h"

namespace rudder {
namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Policy> (*make)(const PolicyConfig&);
  std::string_view summary;
};

constexpr std::array kPolicies = {
    Entry{"none", make_none, "no buffer"},
    Entry{"lookahead", make_lookahead, "nearest next use in the window, then the prior"},
    Entry{"static-vip", make_static, "the rows of highest VIP, never evicted"},
    Entry{"static-degree", make_static, "the rows of highest degree, never evicted"},
    Entry{"static-frequency", make_static, "the rows most requested in a first epoch, never evicted"},
    Entry{"lru", make_lru, "least recently requested leaves"},
    Entry{"fifo", make_fifo, "first entered leaves"},
    Entry{"lfu", make_lfu, "least often requested leaves"},
    Entry{"sieve", make_sieve, "first entered and not requested since the hand passed leaves"},
    Entry{"s3fifo", make_s3fifo, "three queues: most rows leave the small one soon"},
    Entry{"wtinylfu", make_wtinylfu, "admission by an aging sketch of counts"},
    Entry{"score", make_score, "the paper's decayed score, with replacements fetched separately"},
};

}  // namespace

std::unique_ptr<Policy> make_policy(const PolicyConfig& config) {
  std::string known;
  for (const Entry& entry : kPolicies) {
    if (entry.name == config.name) return entry.make(config);
    known.append(known.empty() ? "" : ", ").append(entry.name);
  }
  throw Error(ErrorCode::kConfig, "unknown policy \"" + config.name + "\"; choose one of: " + known);
}

std::vector<std::string> policy_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kPolicies) names.emplace_back(entry.name);
  return names;
}

std::string_view policy_summary(std::string_view name) {
  for (const Entry& entry : kPolicies)
    if (entry.name == name) return entry.summary;
  return {};
}

}  // namespace rudder
