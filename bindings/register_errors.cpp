// The core's error codes as the classes of rudder.errors.
#include "common/error.h"
#include "register.h"

namespace py = pybind11;

namespace {

const char* class_of(rudder::ErrorCode code) {
  using rudder::ErrorCode;
  switch (code) {
    case ErrorCode::kConfig:
      return "ConfigError";
    case ErrorCode::kOutOfRange:
      return "IdError";
    case ErrorCode::kOutOfMemory:
      return "ArenaError";
    case ErrorCode::kTransport:
      return "TransportError";
    case ErrorCode::kDeadline:
      return "DeadlineError";
    case ErrorCode::kClosed:
      return "ClosedError";
    case ErrorCode::kState:
      return "StateError";
    case ErrorCode::kFormat:
      return "FormatError";
    case ErrorCode::kDevice:
      return "DeviceError";
  }
  return "RudderError";
}

py::object error_class(rudder::ErrorCode code) {
  return py::module_::import("rudder.errors").attr(class_of(code));
}

}  // namespace

void register_errors(py::module_&) {
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      std::rethrow_exception(std::move(thrown));
    } catch (const rudder::FetchError& error) {
      py::list ids;
      for (const std::int64_t id : error.ids()) ids.append(id);
      const py::object raised = error_class(error.code())(error.what(), error.part(), ids, error.place());
      PyErr_SetObject(py::type::of(raised).ptr(), raised.ptr());
    } catch (const rudder::Error& error) {
      PyErr_SetString(error_class(error.code()).ptr(), error.what());
    }
  });
}
