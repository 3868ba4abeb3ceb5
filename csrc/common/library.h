// A shared library that is looked for at run time and stays open: what it was asked for, and why it is not
// here. Any thread may make one.
#pragma once

#include <string>
#include <type_traits>
#include <vector>

namespace rudder {

class Library {
 public:
  // Opens the first of `files` (paths, or names that the loader finds) that can be opened; one that the
  // process has already wins over any other, since two copies would not know of each other. Throws
  // Error(kTransport) with every refusal.
  Library(const char* name, const std::vector<std::string>& files);

  const std::string& file() const { return file_; }

  // Throws Error(kTransport) where the library has no such function.
  template <class Function>
  void find(Function*& function, const char* symbol) const {
    static_assert(std::is_function_v<Function>);
    function = reinterpret_cast<Function*>(address(symbol));
  }
  // The same, but null where the library has no such function.
  template <class Function>
  void find_if_there(Function*& function, const char* symbol) const {
    static_assert(std::is_function_v<Function>);
    function = reinterpret_cast<Function*>(look_up(symbol));
  }

 private:
  void* look_up(const char* symbol) const;
  void* address(const char* symbol) const;

  void* handle_ = nullptr;
  std::string file_;
};

}  // namespace rudder
