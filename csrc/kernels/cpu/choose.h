// Picks the table of a level that is compiled in; each is made at its first use and kept.
#pragma once

#include "levels.h"

// In a function of `isa`: returns the table that `level::name()` makes, where `isa` is that level.
#define SRGAN_FAST_TABLE(value, level, Type, name)  \
    if (isa == Isa::value) {                        \
        static const Type table_of = level::name(); \
        return table_of;                            \
    }
