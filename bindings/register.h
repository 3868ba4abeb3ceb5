// One function per concept; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

void register_replay(pybind11::module_& m);
