// Selects the kernel table of a compiled level; tables are created at their first use.
#pragma once

#include "levels.h"

// In a function of `isa`: returns the table made by `level::name()` if `isa` is that level.
#define SRGAN_FAST_TABLE(value, level, Type, name)  \
    if (isa == Isa::value) {                        \
        static const Type table_of = level::name(); \
        return table_of;                            \
    }
