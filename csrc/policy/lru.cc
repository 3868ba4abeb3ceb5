#include "policy/lru.h"

#include "policy/list_policy.h"

namespace rudder {
namespace {

class Lru final : public ListPolicy {
 public:
  using ListPolicy::ListPolicy;
  std::string_view name() const override { return "lru"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Lru>(*this); }
  void execute(const Step& step, Outcome& out) override { run(*this, step, out); }

 private:
  friend TwoPhasePolicy;

  void touch(RowKey row) override { renew(row); }
};

}  // namespace

std::unique_ptr<Policy> make_lru(const PolicyConfig& config) {
  return std::make_unique<Lru>(config.capacity);
}

}  // namespace rudder
