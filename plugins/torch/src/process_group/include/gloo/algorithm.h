// Declarations for c10d's `ProcessGroupGloo.hpp`, of the types that it names: libtorch has gloo compiled in and comes
// without gloo's headers. No object of these types is made or read here, so that their layout does not matter.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>
