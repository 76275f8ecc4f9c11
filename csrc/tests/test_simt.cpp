// Kernels on the host: right ones with many seeds, and ones with planted bugs, which have to show.
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/simt/simt.h"
#include "tests/check.h"

namespace {

using namespace srgan_fast::cuda;
using namespace srgan_fast::tests;
using simt::launch;

constexpr int kSeeds = kSlow ? 4 : 64;

// What went wrong in a launch; empty for nothing.
template <typename Kernel>
std::string error_of(simt::Dim3 grid, int threads, std::size_t shared_bytes, std::uint64_t seed, const Kernel& kernel) {
    try {
        launch(grid, threads, shared_bytes, {.seed = seed}, kernel);
    } catch (const simt::Error& error) {
        return error.what();
    }
    return "";
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void check_error(const std::string& error, const std::string& part) {
    check(has(error, part), "an error of \"" + part + "\", not \"" + error + "\"");
}

// ---- Products through shared memory ----

// 16x16 by 16x16 through shared memory, as kernels do it: a and b by rows, b's fragments transposed as they are loaded.
// `swapped` lets two lanes mix up their rows.
bool multiplies(std::uint64_t seed, bool swapped) {
    Random random(static_cast<unsigned>(seed));
    Bf16 a[16][16], b[16][16];
    float d[16][16];
    for (auto& row : a)
        for (Bf16& v : row) v = narrow<Bf16>(static_cast<float>(below(17, random)) - 8.0f);
    for (auto& row : b)
        for (Bf16& v : row) v = narrow<Bf16>(static_cast<float>(below(17, random)) - 8.0f);
    launch({}, 32, sizeof a + sizeof b, {.seed = seed}, [&] {
        const int lane = static_cast<int>(threadIdx.x);
        std::byte* const shared_a = shared_memory();
        std::byte* const shared_b = shared_a + sizeof a;
        copy_async_16(shared_a + 16 * lane, &a[0][0] + 8 * lane, true);
        copy_async_16(shared_b + 16 * lane, &b[0][0] + 8 * lane, true);
        copy_async_commit();
        copy_async_wait<0>();
        sync_warp();
        const int from = swapped && (lane == 5 || lane == 9) ? 14 - lane : lane;
        std::uint32_t fragment_a[4], fragment_b[4];
        load_matrices(fragment_a, shared_a + 32 * (from % 16) + 16 * (from / 16));
        load_matrices_transposed(fragment_b, shared_b + 32 * (lane % 16) + 16 * (lane / 16));
        float sums[2][4] = {};
        for (int half = 0; half < 2; ++half) {
            multiply_add<Bf16>(sums[half], fragment_a, fragment_b[2 * half], fragment_b[2 * half + 1]);
            for (int i = 0; i < 4; ++i) d[lane / 4 + 8 * (i / 2)][8 * half + 2 * (lane % 4) + i % 2] = sums[half][i];
        }
    });
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 16; ++column) {
            float expected = 0.0f;
            for (int k = 0; k < 16; ++k) expected += widen(a[row][k]) * widen(b[k][column]);
            if (d[row][column] != expected) return false;
        }
    return true;
}

void test_products() {
    for (int seed = 0; seed < kSeeds; ++seed) {
        check(multiplies(seed, false), "a product through shared memory");
        check(!multiplies(seed, true), "a swapped lane shows in the product");
    }
}

// ---- A sum over the block ----

enum class SumBug { kNone, kNoBarrier, kNoWarpBarrier };

// Sums of 128 values of a block: within warps by shuffles or through shared memory, then over the warps.
void sum_body(const float* values, float* sums, SumBug bug) {
    constexpr int kThreads = 128;
    float* const shared = reinterpret_cast<float*>(shared_memory());
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    const float own = values[kThreads * blockIdx.x + threadIdx.x];
    float by_shuffles = own;
    for (int mask = 16; mask > 0; mask /= 2) by_shuffles += shuffle_xor(by_shuffles, mask);

    shared[thread] = own;
    for (int half = 16; half > 0; half /= 2) {
        if (bug != SumBug::kNoWarpBarrier) sync_warp();
        if (lane < half) shared[thread] += shared[thread + half];
    }
    if (lane == 0 && shared[thread] != by_shuffles) shared[thread] = NAN;
    if (bug != SumBug::kNoBarrier) sync_threads();
    if (thread == 0) {
        float sum = 0.0f;
        for (int i = 0; i < kThreads; i += 32) sum += shared[i];
        sums[blockIdx.x] = sum;
    }
}

bool sums_right(std::uint64_t seed, SumBug bug) {
    constexpr int kBlocks = 3;
    Random random(static_cast<unsigned>(seed));
    std::vector<float> values(kBlocks * 128), sums(kBlocks, NAN);
    for (float& v : values) v = static_cast<float>(below(100, random));
    launch({kBlocks}, 128, 128 * sizeof(float), {.seed = seed}, [&] { sum_body(values.data(), sums.data(), bug); });
    for (int i = 0; i < kBlocks; ++i)
        if (sums[i] != std::accumulate(values.begin() + 128 * i, values.begin() + 128 * (i + 1), 0.0f)) return false;
    return true;
}

void test_sum() {
    int no_barrier = 0, no_warp_barrier = 0;
    for (int seed = 0; seed < kSeeds; ++seed) {
        check(sums_right(seed, SumBug::kNone), "the sum, seed " + std::to_string(seed));
        no_barrier += !sums_right(seed, SumBug::kNoBarrier);
        no_warp_barrier += !sums_right(seed, SumBug::kNoWarpBarrier);
    }
    check(no_barrier > kSeeds / 2, "sums without a barrier: " + std::to_string(no_barrier) + " wrong");
    check(no_warp_barrier > kSeeds / 2, "sums without a warp's barrier: " + std::to_string(no_warp_barrier) + " wrong");
}

// ---- Tiles copied while the ones before are used ----

enum class PipeBug { kNone, kNoWait, kWaitTooShort, kNoCommit, kNoBarrierAfterWait, kNoBarrierBeforeCopy };

constexpr int kPipeThreads = 128, kTiles = 9, kTileBytes = 16 * kPipeThreads;

// Adds up tiles of 16 bytes a thread, each thread what another one copied; of the last `padding` threads the copies are
// zeros. `matrices` reads by load_matrices, else plainly.
void pipe_body(const std::uint32_t* values, std::uint32_t* sums, int padding, bool matrices, PipeBug bug) {
    const int thread = static_cast<int>(threadIdx.x);
    const auto copy = [&](int tile) {
        const bool valid = thread < kPipeThreads - padding;
        const std::uint32_t* const from = values + (tile * kPipeThreads + thread) * 4;
        copy_async_16(shared_memory() + tile % 2 * kTileBytes + 16 * thread, valid ? from : nullptr, valid);
    };
    std::uint32_t sum[4] = {};
    copy(0);
    copy_async_commit();
    for (int tile = 0; tile < kTiles; ++tile) {
        if (tile + 1 < kTiles) copy(tile + 1);
        if (bug != PipeBug::kNoCommit || tile == 3) copy_async_commit();
        if (bug == PipeBug::kWaitTooShort)
            copy_async_wait<2>();
        else if (bug != PipeBug::kNoWait)
            copy_async_wait<1>();
        if (bug != PipeBug::kNoBarrierAfterWait) sync_threads();
        const std::byte* const buffer = shared_memory() + tile % 2 * kTileBytes;
        const int other = (thread + 37) % kPipeThreads;
        std::uint32_t words[4];
        if (matrices)
            load_matrices(words, buffer + 16 * other);
        else
            std::memcpy(words, buffer + 16 * other, 16);
        for (int i = 0; i < 4; ++i) sum[i] += words[i];
        if (bug != PipeBug::kNoBarrierBeforeCopy) sync_threads();
    }
    copy_async_commit();
    copy_async_wait<0>();
    std::memcpy(sums + 4 * thread, sum, 16);
}

enum class Outcome { kRight, kWrong, kError };

Outcome pipe_outcome(std::uint64_t seed, bool matrices, PipeBug bug) {
    constexpr int kPadding = 5;
    Random random(static_cast<unsigned>(seed));
    const Guarded<std::uint32_t> values(kTiles * kPipeThreads * 4);
    for (std::uint32_t& v : values.span()) v = static_cast<std::uint32_t>(random());
    std::vector<std::uint32_t> sums(kPipeThreads * 4);
    const std::string error = error_of({}, kPipeThreads, 2 * kTileBytes, seed,
                                       [&] { pipe_body(values.data(), sums.data(), kPadding, matrices, bug); });
    if (!error.empty()) return Outcome::kError;
    for (int thread = 0; thread < kPipeThreads; ++thread)
        for (int i = 0; i < 4; ++i) {
            std::uint32_t expected = 0;
            for (int tile = 0; tile < kTiles; ++tile) {
                // Where element i of a thread's four words comes from: with load_matrices the lanes of a warp share.
                const int lane = thread % 32;
                const int holder = matrices ? thread - lane + 8 * i + lane / 4 : thread;
                const int other = (holder + 37) % kPipeThreads, word = matrices ? lane % 4 : i;
                if (other < kPipeThreads - kPadding)
                    expected += values.span()[(tile * kPipeThreads + other) * 4 + word];
            }
            if (sums[4 * thread + i] != expected) return Outcome::kWrong;
        }
    return Outcome::kRight;
}

void test_pipe() {
    for (const bool matrices : {false, true}) {
        for (int seed = 0; seed < kSeeds; ++seed)
            check(pipe_outcome(seed, matrices, PipeBug::kNone) == Outcome::kRight,
                  "tiles, seed " + std::to_string(seed));
        for (const PipeBug bug : {PipeBug::kNoWait, PipeBug::kWaitTooShort, PipeBug::kNoCommit,
                                  PipeBug::kNoBarrierAfterWait, PipeBug::kNoBarrierBeforeCopy}) {
            int seen = 0;
            for (int seed = 0; seed < kSeeds; ++seed) seen += pipe_outcome(seed, matrices, bug) != Outcome::kRight;
            check(seen == kSeeds,
                  "tiles with bug " + std::to_string(int(bug)) + ": seen " + std::to_string(seen) + " times");
        }
    }
}

// ---- Products of warpgroups ----

enum class GroupBug {
    kNone,
    kNoWait,
    kWaitTooShort,
    kNoOrder,
    kNoCommit,
    kNotShown,
    kShownBehindTheBarrier,
    kFragmentOverwritten,
    kSumsOverwritten,
    kSumsReadEarly,
    kMapOverwritten
};

constexpr int kGroupThreads = 128, kGroupSide = 64, kGroupRowBytes = 128;

// d = a b of 64x64 halves or bfloat16, in four steps, the fragments of each loaded while the step before multiplies, as
// infer_block.cuh does it. `a` and the transpose of `b` by rows, whose units of 16 bytes are permuted in shared memory.
template <typename T>
void group_body(const T* a, const T* b, float* d, GroupBug bug) {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
    std::byte* const rows = shared_memory();
    for (int i = thread; i < kGroupSide * 8; i += kGroupThreads) {
        const int row = i / 8, unit = i % 8;
        copy_async_16(rows + row * kGroupRowBytes + ((unit ^ (row & 7)) << 4), b + row * kGroupSide + unit * 8, true);
    }
    copy_async_commit();
    copy_async_wait<0>();
    if (bug != GroupBug::kNotShown && bug != GroupBug::kShownBehindTheBarrier) show_to_products();
    sync_threads();
    if (bug == GroupBug::kShownBehindTheBarrier) show_to_products();
    float sums[8][4] = {};
    std::uint32_t fragments[2][4];
    const auto load = [&](int k) {
        for (int i = 0; i < 4; ++i) {
            const int row = warp * 16 + lane / 4 + 8 * (i % 2), column = 16 * k + 2 * (lane % 4) + 8 * (i / 2);
            std::memcpy(&fragments[k % 2][i], a + row * kGroupSide + column, 4);
        }
    };
    load(0);
    for (int k = 0; k < 4; ++k) {
        if (bug != GroupBug::kNoOrder || k == 0) order_products();
        multiply_group<T>(sums, fragments[k % 2], rows, k);
        if (bug == GroupBug::kFragmentOverwritten && k == 2) fragments[0][3] = 0;
        if (bug == GroupBug::kSumsOverwritten && k == 3) sums[7][3] += 1.0f;
        if (bug != GroupBug::kNoCommit) commit_products();
        if (bug == GroupBug::kWaitTooShort)
            wait_for_products<2>();
        else if (bug != GroupBug::kNoWait)
            wait_for_products<1>();
        if (bug == GroupBug::kMapOverwritten && k == 3)
            copy_async_16(rows + thread / 8 * kGroupRowBytes + thread % 8 * 16, b, true), copy_async_commit();
        if (k < 3) load(k + 1);
    }
    if (bug != GroupBug::kSumsReadEarly) wait_for_products<0>();
    for (int block = 0; block < 8; ++block)
        for (int i = 0; i < 4; ++i)
            d[(warp * 16 + lane / 4 + 8 * (i / 2)) * kGroupSide + 8 * block + 2 * (lane % 4) + i % 2] = sums[block][i];
    wait_for_products<0>();
    copy_async_wait<0>();
}

template <typename T>
Outcome group_outcome(std::uint64_t seed, GroupBug bug) {
    Random random(static_cast<unsigned>(seed));
    const Guarded<T> a(kGroupSide * kGroupSide), b(kGroupSide * kGroupSide);
    for (const Guarded<T>* matrix : {&a, &b})
        for (T& v : matrix->span()) v = narrow<T>(static_cast<float>(below(17, random)) - 8.0f);
    std::vector<float> d(kGroupSide * kGroupSide, NAN);
    const std::string error = error_of({}, kGroupThreads, kGroupSide * kGroupRowBytes, seed,
                                       [&] { group_body(a.data(), b.data(), d.data(), bug); });
    if (!error.empty()) return Outcome::kError;
    for (int row = 0; row < kGroupSide; ++row)
        for (int column = 0; column < kGroupSide; ++column) {
            float expected = 0.0f;
            for (int k = 0; k < kGroupSide; ++k)
                expected += widen(a.span()[row * kGroupSide + k]) * widen(b.span()[column * kGroupSide + k]);
            if (d[row * kGroupSide + column] != expected) return Outcome::kWrong;
        }
    return Outcome::kRight;
}

void test_warpgroups() {
    constexpr int kGroupSeeds = kSlow ? 2 : 8;
    for (int seed = 0; seed < kGroupSeeds; ++seed) {
        check(group_outcome<Bf16>(seed, GroupBug::kNone) == Outcome::kRight, "products of a warpgroup");
        check(group_outcome<Half>(seed, GroupBug::kNone) == Outcome::kRight, "products of a warpgroup");
    }
    for (int bug = int(GroupBug::kNoWait); bug <= int(GroupBug::kMapOverwritten); ++bug) {
        int seen = 0;
        for (int seed = 0; seed < kGroupSeeds; ++seed)
            seen += group_outcome<Bf16>(seed, static_cast<GroupBug>(bug)) != Outcome::kRight;
        check(seen == kGroupSeeds,
              "products of a warpgroup with bug " + std::to_string(bug) + ": seen " + std::to_string(seen) + " times");
    }
    const auto group_error = [](const auto& kernel) { return error_of({}, 128, 9 * 1024, 0, kernel); };
    check_error(group_error([] {
                    float sums[8][4] = {};
                    std::uint32_t a[4] = {};
                    order_products();
                    multiply_group<Half>(sums, a, shared_memory() + (threadIdx.x == 39 ? 1024 : 0), 0);
                    commit_products();
                    wait_for_products<0>();
                }),
                "thread 39 of block (0, 0, 0) multiplies other rows than its warp");
    check_error(group_error([] {
                    float sums[8][4] = {};
                    std::uint32_t a[4] = {};
                    order_products();
                    multiply_group<Half>(sums, a, shared_memory() + 512, 0);
                    commit_products();
                    wait_for_products<0>();
                }),
                "not aligned to 1024 bytes");
}

// Copies read what they copy early or late: changing it before they are waited for shows.
void test_source_changed() {
    bool early = false, late = false;
    for (int seed = 0; seed < kSeeds; ++seed) {
        alignas(16) std::uint32_t source[32][4] = {};
        std::uint32_t got[32];
        launch({}, 32, 512, {.seed = static_cast<std::uint64_t>(seed)}, [&] {
            copy_async_16(shared_memory() + 16 * threadIdx.x, source[threadIdx.x], true);
            source[threadIdx.x][0] = 1;
            copy_async_commit();
            copy_async_wait<0>();
            std::memcpy(&got[threadIdx.x], shared_memory() + 16 * threadIdx.x, 4);
        });
        for (const std::uint32_t v : got) (v == 0 ? early : late) = true;
    }
    check(early && late, "copies read early and late");
}

// ---- Errors ----

void test_errors() {
    std::uint32_t words[128][4] = {};
    alignas(16) const std::byte source[32] = {};
    const auto load_at = [&](std::ptrdiff_t last) {
        const int thread = static_cast<int>(threadIdx.x);
        load_matrices(words[thread], shared_memory() + (thread == 39 ? last : 16 * (thread % 32)));
    };
    for (std::uint64_t seed = 0; seed < (kSlow ? 2 : 8); ++seed) {
        // Exactly at the end, past it, before the beginning, and between rows.
        check(error_of({1, 2}, 64, 520, seed, [&] { load_at(504 - 8); }).empty(), "load_matrices up to the end");
        for (const int offset : {512, 520, 1 << 20})
            check_error(error_of({1, 2}, 64, 520, seed, [&] { load_at(offset); }),
                        "calls load_matrices for 16 bytes at byte " + std::to_string(offset) + " of 520 bytes");
        check_error(error_of({1, 2}, 64, 512, seed, [&] { load_at(-16); }), "at byte -16 of 512 bytes");
        check_error(error_of({1, 2}, 64, 512, seed, [&] { load_at(8); }), "not aligned to 16 bytes");
        check_error(error_of({}, 64, 512, seed, [&] { load_at(512); }), "thread 39 of block (0, 0, 0)");
        check_error(error_of({}, 64, 512, seed, [&] { load_at(512); }), "(seed " + std::to_string(seed) + ")");

        check_error(error_of({}, 32, 512, seed, [&] { copy_async_16(shared_memory() + 512, source, true); }),
                    "calls copy_async_16 for 16 bytes at byte 512 of 512 bytes");
        check_error(error_of({}, 32, 512, seed, [&] { copy_async_16(shared_memory() + 8, source, true); }),
                    "not aligned to 16 bytes");
        check_error(error_of({}, 32, 512, seed, [&] { copy_async_16(shared_memory(), source + 8, true); }),
                    "a source that is not aligned");
        check_error(error_of({}, 32, 512, seed,
                             [&] {
                                 copy_async_16(shared_memory(), source, true);
                                 sync_warp();
                             }),
                    "another copy is under way");
        const auto own_copy = [&] { copy_async_16(shared_memory() + 16 * threadIdx.x, source, true); };
        check_error(error_of({}, 32, 512, seed, own_copy), "ends with 1 copies of copy_async_16 under way");
        check_error(error_of({}, 32, 512, seed,
                             [&] {
                                 own_copy();
                                 copy_async_wait<0>();
                             }),
                    "ends with 1 copies");
        check_error(error_of({}, 32, 512, seed,
                             [&] {
                                 own_copy();
                                 copy_async_commit();
                                 std::memset(shared_memory() + 16 * threadIdx.x, 0, 4);
                                 copy_async_wait<0>();
                             }),
                    "was written while the copy was under way");
        check_error(error_of({}, 32, 512, seed,
                             [&] {
                                 own_copy();
                                 copy_async_commit();
                                 load_matrices(words[threadIdx.x], shared_memory() + 16 * threadIdx.x);
                                 copy_async_wait<0>();
                             }),
                    "where a copy is under way");

        // Missing barriers between copies and loads, whatever the order: of two warps, and of the lanes of one.
        const auto load_from = [&](unsigned thread) {
            load_matrices(words[threadIdx.x], shared_memory() + 16 * thread);
        };
        const auto landed_copy = [&] {
            own_copy();
            copy_async_commit();
            copy_async_wait<0>();
        };
        for (const bool barrier : {false, true})
            for (const bool other : {false, true}) {
                const std::string after_copy = error_of({}, 64, 1024, seed, [&] {
                    landed_copy();
                    if (barrier && other)
                        sync_threads();
                    else if (barrier)
                        sync_warp();
                    load_from(other ? threadIdx.x ^ 32 : threadIdx.x);
                });
                const std::string before_copy = error_of({}, 64, 1024, seed, [&] {
                    load_from(other ? threadIdx.x ^ 32 : threadIdx.x);
                    if (barrier) sync_threads();
                    landed_copy();
                });
                if (barrier) check(after_copy.empty() && before_copy.empty(), after_copy + before_copy);
                if (!barrier) check(!after_copy.empty() && before_copy.empty() != other, after_copy + before_copy);
            }
        check_error(error_of({}, 32, 1024, seed,
                             [&] {
                                 landed_copy();
                                 load_from(threadIdx.x);
                             }),
                    "copied to with no barrier since");

        // Barriers that do not meet.
        check_error(error_of({}, 64, 0, seed, [&] { threadIdx.x < 16 ? sync_threads() : sync_warp(); }), "is stuck");
        check_error(
            error_of({}, 64, 0, seed, [&] { threadIdx.x < 16 ? sync_threads() : sync_warp(); }),
            "16 threads from thread 0 on wait in sync_threads, 16 threads from thread 16 on wait in sync_warp, 32 "
            "have ended");
        check_error(error_of({}, 64, 0, seed, [&] { static_cast<void>(threadIdx.x < 40 || shuffle_xor(1.0f, 1)); }),
                    "24 threads from thread 40 on wait in shuffle_xor, 40 have ended");
        const std::string mixed = error_of({}, 64, 0, seed, [&] {
            if (threadIdx.x % 2 == 0)
                sync_warp();
            else
                shuffle_xor(1.0f, 1);
        });
        check(has(mixed, "calls sync_warp while thread") || has(mixed, "calls shuffle_xor while thread"), mixed);
        check_error(error_of({}, 64, 0, seed, [&] { shuffle_xor(1.0f, 32); }), "with mask 32");
        check(error_of({}, 64, 0, seed,
                       [&] {
                           if (threadIdx.x < 5) return;
                           sync_threads();
                       })
                  .empty(),
              "who has ended counts as arrived");

        // Another exception of the kernel, with threads at barriers that have to be unwound.
        int alive = 0;
        bool caught = false;
        struct Counted {
            explicit Counted(int& count) : count_(count) { ++count_; }
            ~Counted() { --count_; }
            int& count_;
        };
        try {
            launch({}, 64, 0, {.seed = seed}, [&] {
                const Counted counted(alive);
                if (threadIdx.x == 50) throw std::out_of_range("thrown by a kernel");
                sync_threads();
            });
        } catch (const std::out_of_range&) {
            caught = true;
        }
        check(caught && alive == 0, "an exception unwinds all threads");
    }

    // Plain accesses next to shared memory: no write goes unnoticed.
    constexpr std::size_t kBytes = 100;
#if defined(__SANITIZE_ADDRESS__)
    launch({}, 32, kBytes, {}, [&] {
        const std::byte* const shared = shared_memory();
        check(__asan_address_is_poisoned(shared - 1) && __asan_address_is_poisoned(shared + kBytes), "guarded");
        check(!__asan_region_is_poisoned(shared_memory(), kBytes), "what is not guarded");
    });
#else
    for (const int offset : {-1, int(kBytes)})
        check_error(error_of({}, 32, kBytes, 0, [&] { shared_memory()[offset] = std::byte{0}; }),
                    "wrote next to its 100");
#endif

    check_error(error_of({}, 48, 0, 0, [] {}), "48 threads");
    check_error(error_of({}, 1056, 0, 0, [] {}), "1056 threads");
    check_error(error_of({0, 1, 1}, 32, 0, 0, [] {}), "(0, 1, 1) blocks");
    check_error(error_of({}, 32, 1 << 20, 0, [] {}), "1048576 bytes of shared memory");
    check_error(error_of({}, 32, 0, 0, [] { launch({}, 32, 0, {}, [] {}); }), "cannot launch");
    std::string outside;
    try {
        sync_threads();
    } catch (const simt::Error& error) {
        outside = error.what();
    }
    check_error(outside, "outside of a kernel");
}

// ---- The launch ----

void test_launch() {
    // Every thread of every block once, in an order that the seed decides.
    const simt::Dim3 grid{3, 2, 4};
    const auto order = [&](std::uint64_t seed) {
        std::vector<unsigned> result;
        launch(grid, 64, 256, {.seed = seed}, [&] {
            check(blockDim.x == 64 && gridDim.x == 3 && gridDim.y == 2 && gridDim.z == 4, "the launch's sizes");
            check(reinterpret_cast<std::uintptr_t>(shared_memory()) % 128 == 0, "alignment of shared memory");
            const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
            result.push_back(block * blockDim.x + threadIdx.x);
            const unsigned before = threadIdx.x;
            check(std::isnan(reinterpret_cast<const float*>(shared_memory())[before]),
                  "shared memory starts as no numbers");
            sync_threads();
            check(threadIdx.x == before, "threadIdx after a switch");
            reinterpret_cast<float*>(shared_memory())[before] = 1.0f;
        });
        return result;
    };
    std::vector<unsigned> first = order(1);
    check(first == order(1), "the same seed, the same order");
    check(first != order(2), "another seed, another order");
    std::sort(first.begin(), first.end());
    bool each = first.size() == 24 * 64;
    for (std::size_t i = 0; each && i < first.size(); ++i) each = first[i] == i;
    check(each, "each thread once");
    launch({}, 1024, 227 * 1024, {}, [] { sync_threads(); });
}

}  // namespace

int main() {
    test_products();
    test_sum();
    test_pipe();
    test_warpgroups();
    test_source_changed();
    test_errors();
    test_launch();
    return finish();
}
