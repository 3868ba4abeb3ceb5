#include "common/library.h"

#include <dlfcn.h>

#include "common/error.h"

namespace rudder {

Library::Library(const char* name, const std::vector<std::string>& files) {
  std::string refusals;
  for (const int already : {RTLD_NOLOAD, 0}) {
    for (const std::string& file : files) {
      handle_ = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL | already);
      if (handle_ != nullptr) {
        file_ = file;
        return;
      }
      if (already != 0) continue;  // not loaded yet: no refusal
      const char* why = dlerror();
      refusals += (refusals.empty() ? "" : "; ") + std::string(why != nullptr ? why : file);
    }
  }
  throw Error(ErrorCode::kTransport, std::string(name) + " is not here: " + refusals);
}

void* Library::look_up(const char* symbol) const { return dlsym(handle_, symbol); }

void* Library::address(const char* symbol) const {
  void* found = look_up(symbol);
  if (found == nullptr) throw Error(ErrorCode::kTransport, file_ + " has no " + symbol);
  return found;
}

}  // namespace rudder
