#include "policy/fifo.h"

#include "policy/list_policy.h"

namespace rudder {
namespace {

class Fifo final : public ListPolicy {
 public:
  using ListPolicy::ListPolicy;
  std::string_view name() const override { return "fifo"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<Fifo>(*this); }
  void execute(const Step& step, Outcome& out) override { run(*this, step, out); }

 private:
  friend TwoPhasePolicy;

  void touch(RowKey) override {}
};

}  // namespace

std::unique_ptr<Policy> make_fifo(const PolicyConfig& config) {
  return std::make_unique<Fifo>(config.capacity);
}

}  // namespace rudder
