// A trace as numpy arrays: checked, never copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <variant>

#include "common/types.h"
#include "replay/trace.h"

namespace arrays {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T>
std::span<const T> view(const py::array& array) {
  if (array.ndim() != 1) throw py::value_error("ids, offsets and prior must have one dimension");
  return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}

// The caller's arrays, seen from C++: valid for as long as the arguments of the call are.
struct TraceArrays {
  std::variant<std::span<const rudder::NodeId>, std::span<const std::int32_t>> ids;
  std::span<const std::int64_t> offsets;

  TraceArrays(const py::array& ids_array, const Array<std::int64_t>& offsets_array)
      : offsets(view<std::int64_t>(offsets_array)) {
    static_assert(sizeof(rudder::NodeId) == sizeof(std::int64_t));
    if (py::isinstance<Array<std::int32_t>>(ids_array))
      ids = view<std::int32_t>(ids_array);
    else if (py::isinstance<Array<std::int64_t>>(ids_array))
      ids = view<rudder::NodeId>(ids_array);
    else
      throw py::type_error("ids must be a C-contiguous array of int32 or int64");
  }

  // Reads every id once: call it without the GIL.
  rudder::Trace trace() const {
    return std::visit([this](const auto& some) { return rudder::Trace(some, offsets); }, ids);
  }
};

}  // namespace arrays
