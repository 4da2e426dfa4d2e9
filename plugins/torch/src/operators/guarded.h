// What all functions that Rust calls have in common: they return null, or the text of their error, which `isr_free`
// frees. No exception leaves them.

#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

template <typename Work>
char* guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an error of a type that is not known");
  }
}
