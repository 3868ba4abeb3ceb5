// Objects with threads of their own, as Python sees them end: without the GIL, which a thread may be about to
// take, and before the interpreter does.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

// Lets go of the GIL for its lifetime, where this thread has it: objects end wherever their last owner does.
class WithoutGil {
 public:
  WithoutGil() : state_(PyGILState_Check() != 0 ? PyEval_SaveThread() : nullptr) {}
  ~WithoutGil() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* const state_;
};

// Its end waits for threads. In a forked child these are not: nothing is freed there.
template <class T>
std::shared_ptr<T> without_gil_at_the_end(std::unique_ptr<T> object) {
  return {object.release(), [process = getpid()](T* last) {
            if (getpid() != process) return;
            const WithoutGil released;
            delete last;
          }};
}

// What is open when the interpreter ends is closed before. A thread that comes back to Python later is ended
// there and then, wherever it stands, and UCX's own end must not meet a thread that still calls it. One set
// for each extension module.
class OpenOnes {
 public:
  template <class T>
  std::shared_ptr<T> remember(std::shared_ptr<T> object) {
    const std::lock_guard lock(mutex_);
    std::erase_if(closers_, [](const auto& closer) { return closer.first.expired(); });
    closers_.emplace_back(object, [raw = object.get()] { raw->close(); });
    return object;
  }
  void close_all() {
    if (getpid() != process_) return;
    const pybind11::gil_scoped_release release;
    std::vector<std::pair<std::weak_ptr<void>, std::function<void()>>> closers;
    {
      const std::lock_guard lock(mutex_);
      closers.swap(closers_);
    }
    for (const auto& [object, close] : closers)
      if (const auto alive = object.lock()) close();
  }

 private:
  const pid_t process_ = getpid();
  std::mutex mutex_;
  std::vector<std::pair<std::weak_ptr<void>, std::function<void()>>> closers_;
};

inline OpenOnes& open_ones() {
  static auto& ones = *new OpenOnes;  // outlives every object
  return ones;
}

// Once, when the module is imported.
inline void close_at_exit() {
  open_ones();
  pybind11::module_::import("atexit").attr("register")(
      pybind11::cpp_function([] { open_ones().close_all(); }));
}
