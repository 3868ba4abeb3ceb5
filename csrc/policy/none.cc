#include "policy/none.h"

namespace rudder {
namespace {

class None final : public Policy {
 public:
  explicit None(std::size_t capacity) : capacity_(capacity) {}

  std::string_view name() const override { return "none"; }
  std::unique_ptr<Policy> clone() const override { return std::make_unique<None>(*this); }
  void reserve(std::size_t) override {}
  void execute(const Step& step, Outcome& out) override { out.reset(step.rows.size()); }
  bool cached(RowKey) const override { return false; }
  void erase(RowKey) override {}
  void set_capacity(std::size_t rows, std::vector<RowKey>&) override { capacity_ = rows; }
  std::size_t size() const override { return 0; }
  std::size_t capacity() const override { return capacity_; }

 private:
  std::size_t capacity_;
};

}  // namespace

std::unique_ptr<Policy> make_none(const PolicyConfig& config) {
  return std::make_unique<None>(config.capacity);
}

}  // namespace rudder
