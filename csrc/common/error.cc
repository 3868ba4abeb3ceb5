#include "common/error.h"

#include <string_view>

namespace rudder {

std::string Error::where() const {
  std::string_view file = where_.file_name();
  if (const auto slash = file.rfind('/'); slash != std::string_view::npos) file.remove_prefix(slash + 1);
  return std::string(file) + ":" + std::to_string(where_.line());
}

}  // namespace rudder
