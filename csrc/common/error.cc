#include "common/error.h"

#include <new>
#include <string_view>

namespace rudder {

std::string Error::where() const {
  std::string_view file = where_.file_name();
  if (const auto slash = file.rfind('/'); slash != std::string_view::npos) file.remove_prefix(slash + 1);
  return std::string(file) + ":" + std::to_string(where_.line());
}

FailurePtr Failure::current() {
  try {
    throw;
  } catch (const FetchError& error) {
    return std::make_shared<const Failure>(
        Failure{error.code(), error.what(), error.part(), error.ids(), error.place()});
  } catch (const Error& error) {
    return std::make_shared<const Failure>(Failure{error.code(), error.what(), -1, {}, {}});
  } catch (const std::bad_alloc&) {
    return std::make_shared<const Failure>(Failure{ErrorCode::kOutOfMemory, "out of memory", -1, {}, {}});
  } catch (const std::exception& error) {
    return std::make_shared<const Failure>(Failure{ErrorCode::kState, error.what(), -1, {}, {}});
  }
}

void Failure::raise() const {
  if (part >= 0) throw FetchError(code, message, part, ids, place);
  throw Error(code, message);
}

}  // namespace rudder
