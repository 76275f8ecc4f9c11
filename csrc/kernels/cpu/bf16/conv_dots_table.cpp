// Training on bfloat16 maps with AVX-512 dot products but without AMX: each convolution uses the faster of direct
// convolution in bfloat16 and Winograd in float.
#include "kernels/cpu/bf16/table.h"
#include "kernels/cpu/bf16/tiles.h"

namespace srgan_fast::cpu {

// See level/conv_table.cpp.
namespace avx512_bf16 {
ConvTable<float> conv_bf16();
}  // namespace avx512_bf16

namespace SRGAN_FAST_LEVEL {
namespace {

const ConvTable<float>& winograd() {
    static const ConvTable<float> table = avx512_bf16::conv_bf16();
    return table;
}

// Whether direct convolution is faster: Winograd saves 39 % of the multiplications for stride 2, 75 % and more
// otherwise, and AVX-512 multiplies twice as many bfloat16 as floats.
template <typename A>
bool direct(const A& a) {
    return a.geometry == Geometry::k3x3Stride2;
}

// Forwards a call to kOwn or to the Winograd table's function kOther.
template <auto kOwn, auto kOther, typename A>
Kernel<A> either() {
    static constexpr auto of = [](const A& a) { return direct(a) ? kOwn() : winograd().*kOther; };
    return {
        [](const A& a, int threads) { return of(a).tasks(a, threads); },
        [](const A& a, std::int64_t tasks) { return of(a).scratch(a, tasks); },
        [](const A& a, std::int64_t task, std::int64_t tasks, void* scratch) { of(a).run(a, task, tasks, scratch); }};
}

std::int64_t packed_size(const ConvPack<float>& a) {
    return direct(a) ? conv_packed_size(a) : winograd().packed_size(a);
}
std::int64_t wgrad_splits(const ConvWgrad<float>& a, int threads) {
    return direct(a) ? conv_wgrad_splits(a, threads) : winograd().wgrad_splits(a, threads);
}

}  // namespace

ConvTable<float> conv_bf16() {
    using Table = ConvTable<float>;
    return {either<conv_fwd, &Table::forward, ConvForward<float>>(),
            either<conv_dgrad, &Table::dgrad, ConvDgrad<float>>(),
            either<conv_wgrad, &Table::wgrad, ConvWgrad<float>>(),
            either<conv_pack, &Table::pack, ConvPack<float>>(),
            packed_size,
            wgrad_splits,
            winograd().max_pool};
}

}  // namespace SRGAN_FAST_LEVEL
}  // namespace srgan_fast::cpu
