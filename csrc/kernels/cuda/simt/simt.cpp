// The SM that launch() runs blocks on: fibers for the threads, a seeded scheduler that switches between them where they
// synchronise, and the collective operations.
#include "kernels/cuda/simt/simt.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/simt/fiber.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace srgan_fast::cuda::simt {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif

constexpr int kLanes = 32, kMaxThreads = 1024;
constexpr std::uint32_t kAllLanes = 0xffffffffu;
constexpr std::size_t kCopyBytes = 16;

// ---- Shared memory ----

// Exactly the requested size, between two guards. It is filled with NaN for each block. Accesses to the guards are
// reported immediately by the address sanitizer; otherwise writes are found when the block has ended.
class SharedMemory {
  public:
    explicit SharedMemory(std::size_t bytes)
        : bytes_(bytes), lines_(2 * kGuardLines + (bytes + sizeof(Line) - 1) / sizeof(Line)) {
        std::memset(lines_.data(), kGuardByte, lines_.size() * sizeof(Line));
#if defined(__SANITIZE_ADDRESS__)
        ASAN_POISON_MEMORY_REGION(lines_.data(), kGuardLines * sizeof(Line));
        ASAN_POISON_MEMORY_REGION(data() + bytes_, bytes_behind());
#endif
    }
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    ~SharedMemory() {
#if defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(lines_.data(), lines_.size() * sizeof(Line));
#endif
    }

    std::byte* data() { return lines_[kGuardLines].bytes; }
    std::size_t bytes() const { return bytes_; }
    void clear() { std::memset(data(), 0xff, bytes_); }

    bool intact() {
        if (kAddressSanitizer) return true;
        const auto is_guard = [](std::byte b) { return b == std::byte{kGuardByte}; };
        const std::byte* const first = lines_[0].bytes;
        return std::all_of(first, first + kGuardLines * sizeof(Line), is_guard) &&
               std::all_of(data() + bytes_, data() + bytes_ + bytes_behind(), is_guard);
    }

  private:
    struct alignas(128) Line {
        std::byte bytes[128];
    };
    static constexpr std::size_t kGuardLines = 32;
    // As 16 bits it is a huge number or a half's NaN; with all bits set, a write of NaN would not show.
    static constexpr unsigned char kGuardByte = 0xfe;

    std::size_t bytes_behind() const { return (lines_.size() - kGuardLines) * sizeof(Line) - bytes_; }

    std::size_t bytes_;
    std::vector<Line> lines_;
};

// ---- Threads and warps ----

// State of a thread: it runs, waits for others to call the same, or has ended.
enum class State : std::uint8_t {
    kRuns,
    kBarrier,
    kGroupBarrier,
    kSyncWarp,
    kShuffle,
    kLoad,
    kLoadTransposed,
    kMultiplyBf16,
    kMultiplyHalf,
    kMultiplyTf32,
    kGroupProduct,
    kEnded
};
constexpr State kWaits[] = {State::kBarrier,      State::kGroupBarrier,   State::kSyncWarp,     State::kShuffle,
                            State::kLoad,         State::kLoadTransposed, State::kMultiplyBf16, State::kMultiplyHalf,
                            State::kMultiplyTf32, State::kGroupProduct};

const char* name(State state) {
    switch (state) {
        case State::kRuns: return "nothing";
        case State::kBarrier: return "sync_threads";
        case State::kGroupBarrier: return "sync_group";
        case State::kSyncWarp: return "sync_warp";
        case State::kShuffle: return "shuffle_xor";
        case State::kLoad: return "load_matrices";
        case State::kLoadTransposed: return "load_matrices_transposed";
        case State::kMultiplyBf16: return "multiply_add<Bf16>";
        case State::kMultiplyHalf: return "multiply_add<Half>";
        case State::kMultiplyTf32: return "multiply_add<float>";
        case State::kGroupProduct: return "wait_for_products";
        case State::kEnded: return "its end";
    }
    return "";
}

constexpr int kGroupColumns = 64, kGroupInner = 16, kGroupRowBytes = 128;  // of a warpgroup multiplication
constexpr int kGroupSums = kGroupColumns / 2;                              // per lane

// A lane's part of a warpgroup multiplication in flight.
struct GroupProduct {
    float* sums;
    const std::uint32_t* a;
    std::uint32_t given[4];  // contents of `a`, until it has been read
    const std::byte* rows;
    int k;
    bool half;
    std::uint64_t group;
};

// Sums of multiplications in flight. They are replaced by NaN until the last multiplication is done.
struct HeldSums {
    float* place;
    float values[kGroupSums];
    int products;
};
// Placeholder of each: a signalling NaN, which changes in any arithmetic.
constexpr std::uint32_t kHeld = 0x7f85eed5u;

// A lane's part in a collective operation of its warp; pointers refer to the lane's variables.
struct Operands {
    const void* row = nullptr;
    std::uint32_t* matrices = nullptr;
    float* sums = nullptr;
    const std::uint32_t* a = nullptr;
    std::uint32_t b[2] = {};
    float value = 0.0f;
    int mask = 0;
    const GroupProduct* product = nullptr;
};

struct Warp {
    std::uint32_t runnable = 0, arrived = 0;  // one bit per lane
    std::uint32_t syncs = 0;                  // sync_warp() so far
    std::uint32_t group_syncs = 0;            // sync_group() so far
    State meeting = State::kRuns;             // operation that the lanes arrived for
    Operands operands[kLanes];
};

// A cp.async in flight.
struct Copy {
    std::size_t chunk;  // of 16 bytes of shared memory
    std::uint64_t group;
    const void* source;  // null once it has been read
    Vec16 data;
};

// History of copies and load_matrices on 16 bytes of shared memory, to find missing barriers for any order of the
// threads. (Plain accesses are not tracked; for those, the random order must show errors.)
struct Chunk {
    bool in_flight = false;           // a copy is in flight
    int writer = -1;                  // thread whose copy completed last
    std::uint64_t write_barrier = 0;  // barriers_of() the writer before
    std::uint32_t write_sync = 0;     // sync_warp() of the writer before
    std::uint32_t readers = 0;        // warps that read since, one bit each
    std::uint64_t read_barrier = 0;   // barriers_of() the readers
    bool shown = false;               // made visible to warpgroup multiplications by the writer
    std::uint64_t show_barrier = 0;   // barriers_of() the writer before that
};

struct Thread {
    Fiber fiber;
    State state = State::kRuns;
    int barrier = 0;                     // group barrier that it waits at
    std::uint64_t groups = 0;            // number of committed groups
    std::vector<Copy> copies;            // oldest first
    std::vector<GroupProduct> products;  // oldest first
    std::vector<HeldSums> held;
    std::vector<std::size_t> unshown;  // chunks that its copies wrote
    std::uint64_t product_groups = 0;  // number of committed groups
    bool ordered = false;              // order_products() was called since the last commit
};

// Thrown into the threads of a failed block, to unwind them.
struct Cancelled {};

// splitmix64
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t operator()() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    std::uint32_t below(std::uint32_t end) { return static_cast<std::uint32_t>(((*this)() >> 32) * end >> 32); }
    bool coin() { return ((*this)() >> 63) != 0; }
    template <typename T>
    void shuffle(std::vector<T>& values) {
        for (std::size_t i = values.size(); i > 1; --i)
            std::swap(values[i - 1], values[below(static_cast<std::uint32_t>(i))]);
    }
    // Index of a random set bit.
    int bit_of(std::uint32_t bits) {
        const int turn = static_cast<int>(below(32));
        return (std::countr_zero(std::rotr(bits, turn)) + turn) % 32;
    }

  private:
    std::uint64_t state_;
};

std::string text(Dim3 dim) {
    return std::string("(") + std::to_string(dim.x) + ", " + std::to_string(dim.y) + ", " + std::to_string(dim.z) + ")";
}

// ---- Matrices ----

// Position of a lane's elements in the fragments of mma.m16n8k16, with l = 4 group + member.
struct Place {
    int row, column;
};
constexpr Place a_place(int lane, int i) { return {lane / 4 + 8 * (i / 2 % 2), 2 * (lane % 4) + i % 2 + 8 * (i / 4)}; }
constexpr Place b_place(int lane, int i) { return {2 * (lane % 4) + i % 2 + 8 * (i / 2), lane / 4}; }
constexpr Place sum_place(int lane, int i) { return {lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2}; }
// The same for mma.m16n8k8 of TF32; the sums' are equal.
constexpr Place a_place_tf32(int lane, int i) { return {lane / 4 + 8 * (i % 2), lane % 4 + 4 * (i / 2)}; }
constexpr Place b_place_tf32(int lane, int i) { return {lane % 4 + 4 * i, lane / 4}; }

template <typename T>
constexpr int kOfWord = sizeof(std::uint32_t) / sizeof(T);  // elements per word
constexpr std::uint32_t kBeyondTf32 = (1u << 13) - 1;       // fraction bits of a float that TF32 lacks

template <typename T>
float element(std::uint32_t word, int i) {
    if constexpr (std::is_same_v<T, float>)
        return of_bits<float>(word);
    else
        return widen(T{static_cast<std::uint16_t>(word >> (16 * i))});
}

template <typename T>
void multiply_add(const Operands (&operands)[kLanes]) {
    constexpr int m = 16, n = 8, k = 8 * kOfWord<T>;
    constexpr auto place_in_a = kOfWord<T> == 1 ? a_place_tf32 : a_place;
    constexpr auto place_in_b = kOfWord<T> == 1 ? b_place_tf32 : b_place;
    float a[m][k], b[k][n];
    for (int lane = 0; lane < kLanes; ++lane) {
        const Operands& own = operands[lane];
        for (int i = 0; i < 4 * kOfWord<T>; ++i) {
            const auto [row, column] = place_in_a(lane, i);
            a[row][column] = element<T>(own.a[i / kOfWord<T>], i % kOfWord<T>);
        }
        for (int i = 0; i < 2 * kOfWord<T>; ++i) {
            const auto [row, column] = place_in_b(lane, i);
            b[row][column] = element<T>(own.b[i / kOfWord<T>], i % kOfWord<T>);
        }
    }
    float sums[m][n];
    for (int lane = 0; lane < kLanes; ++lane)
        for (int i = 0; i < 4; ++i) {
            const auto [row, column] = sum_place(lane, i);
            sums[row][column] = operands[lane].sums[i];
        }
    for (int row = 0; row < m; ++row)
        for (int inner = 0; inner < k; ++inner)
            for (int column = 0; column < n; ++column) sums[row][column] += a[row][inner] * b[inner][column];
    for (int lane = 0; lane < kLanes; ++lane)
        for (int i = 0; i < 4; ++i) {
            const auto [row, column] = sum_place(lane, i);
            operands[lane].sums[i] = sums[row][column];
        }
}

// ---- The multiprocessor ----

class Multiprocessor;
// The one whose fiber runs on this host thread, and the one that is starting fibers.
constinit thread_local Multiprocessor* running = nullptr;
constinit thread_local Multiprocessor* starting = nullptr;

// Runs one block at a time. Its fibers are reused for the threads of every block.
class Multiprocessor {
  public:
    Multiprocessor(int threads, std::size_t shared_bytes, const Options& options, Random& random,
                   const std::function<void()>& kernel)
        : seed_(options.seed),
          random_(random),
          kernel_(kernel),
          shared_(shared_bytes),
          chunks_((shared_bytes + kCopyBytes - 1) / kCopyBytes),
          stacks_(threads),
          threads_(threads),
          warps_(threads / kLanes),
          priorities_(warps_.size()) {
        std::iota(priorities_.begin(), priorities_.end(), 0);
#if defined(__SANITIZE_THREAD__)
        host_.sanitizer = __tsan_get_current_fiber();
#endif
        // Each runs up to serve() and waits there for a block.
        starting = this;
        for (current_ = 0; current_ < count(); ++current_) {
            Fiber& fiber = threads_[current_].fiber;
            prepare(fiber, stacks_.stack(current_), Stacks::kBytes, &Multiprocessor::enter);
            resume(host_, fiber);
        }
    }
    Multiprocessor(const Multiprocessor&) = delete;
    Multiprocessor& operator=(const Multiprocessor&) = delete;
    ~Multiprocessor() {
        quits_ = true;
        for (Thread& thread : threads_) {
            resume(host_, thread.fiber);
#if defined(__SANITIZE_THREAD__)
            __tsan_destroy_fiber(thread.fiber.sanitizer);
#endif
        }
    }

    void run(Dim3 block) {
        blockIdx = block;
        shared_.clear();
        std::fill(chunks_.begin(), chunks_.end(), Chunk{});
        for (Thread& thread : threads_) {
            thread.state = State::kRuns;
            thread.groups = 0;
            thread.copies.clear();
            thread.products.clear();
            thread.held.clear();
            thread.unshown.clear();
            thread.product_groups = 0;
            thread.ordered = false;
        }
        for (Warp& warp : warps_) {
            warp.runnable = kAllLanes;
            warp.arrived = warp.syncs = warp.group_syncs = 0;
        }
        runnable_warps_ = kAllLanes >> (kLanes - warps_.size());
        at_barrier_ = ended_ = 0;
        barriers_ = 0;
        cancelled_ = false;
        error_ = nullptr;
        by_priority_ = random_.coin();
        random_.shuffle(priorities_);
        patience_ = 64u << random_.below(10);

        running = this;
        resume(host_, switched_to(pick()));
        for (int i = 0; i < count() && cancelled_; ++i)
            if (threads_[i].state != State::kEnded) resume(host_, switched_to(i));
        running = nullptr;
        if (!error_ && !shared_.intact())
            error_ = error("block " + text(block) + " wrote next to its " + std::to_string(shared_.bytes()) +
                           " bytes of shared memory");
        if (error_) std::rethrow_exception(error_);
    }

    std::byte* shared_memory() { return shared_.data(); }

    void sync_threads() {
        threads_[current_].state = State::kBarrier;
        ++at_barrier_;
        release_barrier();
        yield();
    }

    // Waits for the `threads` threads of its group at the barrier of that number.
    void sync_group(int barrier, int threads) {
        const int first = current_ / threads * threads, end = first + threads;
        if (threads < kLanes || threads % kLanes != 0 || end > count())
            fail(current_, "calls sync_group for a group of " + std::to_string(threads) + " threads");
        threads_[current_].state = State::kGroupBarrier;
        threads_[current_].barrier = barrier;
        const auto waits = [&](const Thread& thread) {
            return thread.state == State::kGroupBarrier && thread.barrier == barrier;
        };
        if (std::all_of(threads_.begin() + first, threads_.begin() + end, waits)) {
            for (int warp = first / kLanes; warp < end / kLanes; ++warp) ++warps_[warp].group_syncs;
            for (int i = first; i < end; ++i) make_runnable(i);
        }
        yield();
    }

    // Waits until all lanes of the warp are here for the same operation; the last one executes it for all.
    void meet(State meeting, const Operands& operands) {
        const int index = current_ / kLanes, lane = current_ % kLanes;
        Warp& warp = warps_[index];
        if (warp.arrived != 0 && warp.meeting != meeting) {
            const int other = index * kLanes + std::countr_zero(warp.arrived);
            fail(current_, std::string("calls ") + name(meeting) + " while thread " + std::to_string(other) +
                               " of its warp waits in " + name(warp.meeting));
        }
        warp.meeting = meeting;
        warp.operands[lane] = operands;
        warp.arrived |= 1u << lane;
        threads_[current_].state = meeting;
        if (warp.arrived == kAllLanes) {
            together(index);
            warp.arrived = 0;
            for (int i = 0; i < kLanes; ++i) make_runnable(index * kLanes + i);
        }
        yield();
    }

    void copy_async(void* to, const void* from, bool valid) {
        Thread& thread = threads_[current_];
        const std::size_t place = chunk_at(current_, "copy_async_16", to);
        Chunk& chunk = chunks_[place];
        if (reinterpret_cast<std::uintptr_t>(from) % kCopyBytes != 0)
            fail(current_, "calls copy_async_16 with a source that is not aligned to 16 bytes");
        const auto fail_there = [&](const std::string& why) {
            fail(current_, "calls copy_async_16 to" + at(place) + why);
        };
        if (chunk.in_flight) fail_there(", where another copy is under way");
        if (unordered_write(chunk, current_ / kLanes) && chunk.writer != current_)
            fail_there(", where thread " + std::to_string(chunk.writer) + " copied to with no barrier since");
        if (chunk.read_barrier == barriers_of(current_ / kLanes) && (chunk.readers & ~(1u << (current_ / kLanes))) != 0)
            fail_there(", which another warp loaded with no barrier since");
        Copy copy{place, thread.groups, valid ? from : nullptr, {}};
        if (random_.coin()) read(copy);
        thread.copies.push_back(copy);
        chunk.in_flight = true;
        // From here on the copy may complete at any time: reads of the old contents get NaN.
        std::memset(shared_.data() + place * kCopyBytes, 0xff, kCopyBytes);
    }

    void copy_async_commit() { ++threads_[current_].groups; }

    void copy_async_wait(int pending) {
        Thread& thread = threads_[current_];
        const auto lands = [&](const Copy& copy) {
            return copy.group + static_cast<std::uint64_t>(pending) < thread.groups;
        };
        const auto end = std::find_if_not(thread.copies.begin(), thread.copies.end(), lands);
        for (auto copy = thread.copies.begin(); copy != end; ++copy) land(*copy);
        thread.copies.erase(thread.copies.begin(), end);
    }

    // Only from here on may the multiplication read registers; shared memory may be read at any time until the wait,
    // and the end of that period shows the most errors.
    void multiply_group(float* sums, const std::uint32_t* a, const std::byte* rows, int k, bool half) {
        Thread& thread = threads_[current_];
        if (!thread.ordered)
            fail(current_, "calls multiply_group with no order_products since the last commit_products");
        HeldSums* held = held_at(thread, sums);
        if (held) {
            check_held(*held);
        } else {
            held = &thread.held.emplace_back(HeldSums{sums, {}, 0});
            std::copy_n(sums, kGroupSums, held->values);
            std::fill_n(sums, kGroupSums, of_bits<float>(kHeld));
        }
        ++held->products;
        thread.products.push_back({sums, a, {a[0], a[1], a[2], a[3]}, rows, k, half, thread.product_groups});
    }

    void order_products() { threads_[current_].ordered = true; }

    void commit_products() {
        ++threads_[current_].product_groups;
        threads_[current_].ordered = false;
    }

    void wait_for_products(int pending) {
        Thread& thread = threads_[current_];
        while (!thread.products.empty() &&
               thread.products.front().group + static_cast<std::uint64_t>(pending) < thread.product_groups) {
            const GroupProduct product = thread.products.front();
            thread.products.erase(thread.products.begin());
            if (!std::equal(product.given, product.given + 4, product.a))
                fail(current_, "writes to a fragment of a product of warpgroups under way");
            HeldSums* const held = held_at(thread, product.sums);
            check_held(*held);
            meet(State::kGroupProduct, {.sums = held->values, .product = &product});
            if (--held->products > 0) continue;
            std::copy_n(held->values, kGroupSums, held->place);
            thread.held.erase(thread.held.begin() + (held - thread.held.data()));
        }
    }

    void show_to_products() {
        Thread& thread = threads_[current_];
        for (const std::size_t place : thread.unshown) {
            if (chunks_[place].writer != current_) continue;
            chunks_[place].shown = true;
            chunks_[place].show_barrier = barriers_of(current_ / kLanes);
        }
        thread.unshown.clear();
    }

    [[noreturn]] void fail(int thread, const std::string& what) {
        throw Error("thread " + std::to_string(thread) + " of block " + text(blockIdx) + " " + what + with_seed());
    }

    int current() const { return current_; }

  private:
    int count() const { return static_cast<int>(threads_.size()); }

    std::string with_seed() const { return " (seed " + std::to_string(seed_) + ")"; }
    std::exception_ptr error(const std::string& what) const {
        return std::make_exception_ptr(Error(what + with_seed()));
    }

    // ---- Scheduling ----

    static void enter() {
        Multiprocessor& self = *starting;
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(nullptr, &self.host_.stack, &self.host_.stack_bytes);
#endif
        self.serve(self.current_);
    }

    // Main function of a fiber: the same thread of one block after the other.
    void serve(int index) {
        Fiber& fiber = threads_[index].fiber;
        resume(fiber, host_);
        while (!quits_) {
            live(index);
            resume(fiber, next_after(index));
        }
        resume(fiber, host_, true);
        std::terminate();
    }

    // Exceptions are stored: while one is handled, no other fiber runs.
    void live(int index) noexcept {
        try {
            if (cancelled_) return;
            kernel_();
            if (!threads_[index].copies.empty())
                fail(index, "ends with " + std::to_string(threads_[index].copies.size()) +
                                " copies of copy_async_16 under way");
            if (!threads_[index].products.empty())
                fail(index, "ends with " + std::to_string(threads_[index].products.size()) +
                                " products of warpgroups under way");
        } catch (const Cancelled&) {
        } catch (...) {
            cancel(std::current_exception());
        }
    }

    void cancel(std::exception_ptr error) {
        if (!cancelled_) error_ = std::move(error);
        cancelled_ = true;
    }

    // Fiber to run after a thread has ended.
    Fiber& next_after(int index) {
        threads_[index].state = State::kEnded;
        ++ended_;
        if (cancelled_ || ended_ == count()) return host_;
        release_barrier();
        const int next = pick();
        if (next < 0) {
            cancel(error(stuck()));
            return host_;
        }
        return switched_to(next);
    }

    void make_runnable(int index) {
        threads_[index].state = State::kRuns;
        warps_[index / kLanes].runnable |= 1u << (index % kLanes);
        runnable_warps_ |= 1u << (index / kLanes);
    }

    // Threads that have ended count as arrived, as from compute capability 7.0 on.
    void release_barrier() {
        if (at_barrier_ == 0 || at_barrier_ + ended_ != count()) return;
        at_barrier_ = 0;
        ++barriers_;
        for (int i = 0; i < count(); ++i)
            if (threads_[i].state == State::kBarrier) make_runnable(i);
    }

    // Picks a runnable thread, or -1. In some blocks all are equally likely; in others a warp runs as far as it can
    // before the next one, which finds missing barriers that need a head start of many steps.
    int pick() {
        if (runnable_warps_ == 0) return -1;
        int index;
        if (by_priority_) {
            if (random_.below(patience_) == 0)
                std::swap(priorities_[random_.below(static_cast<std::uint32_t>(priorities_.size()))], priorities_[0]);
            index = *std::find_if(priorities_.begin(), priorities_.end(),
                                  [&](int warp) { return (runnable_warps_ >> warp & 1) != 0; });
        } else {
            index = random_.bit_of(runnable_warps_);
        }
        Warp& warp = warps_[index];
        const int lane = random_.bit_of(warp.runnable);
        warp.runnable &= ~(1u << lane);
        if (warp.runnable == 0) runnable_warps_ &= ~(1u << index);
        return index * kLanes + lane;
    }

    Fiber& switched_to(int index) {
        current_ = index;
        threadIdx = {static_cast<unsigned>(index), 0, 0};
        return threads_[index].fiber;
    }

    // Runs other threads until the current one, which waits or is runnable, is picked.
    void yield() {
        Fiber& fiber = threads_[current_].fiber;
        const int before = current_, next = pick();
        if (next < 0) throw Error(stuck() + with_seed());
        if (next == before) return;
        resume(fiber, switched_to(next));
        if (cancelled_) throw Cancelled();
    }

    std::string stuck() const {
        std::string result = "block " + text(blockIdx) + " is stuck:";
        for (const State state : kWaits) {
            const auto is = [&](const Thread& thread) { return thread.state == state; };
            const auto waiting = std::count_if(threads_.begin(), threads_.end(), is);
            if (waiting == 0) continue;
            const auto first = std::find_if(threads_.begin(), threads_.end(), is) - threads_.begin();
            result += std::string(" ") + std::to_string(waiting) + " threads from thread " + std::to_string(first) +
                      " on wait in " + name(state) + ",";
        }
        return result + " " + std::to_string(ended_) + " have ended";
    }

    // ---- Memory and matrices ----

    std::string at(std::size_t chunk) const {
        return " byte " + std::to_string(chunk * kCopyBytes) + " of shared memory";
    }

    // Index of the 16 bytes of shared memory at an address.
    std::size_t chunk_at(int thread, const char* call, const void* address) {
        const auto offset = static_cast<std::intptr_t>(reinterpret_cast<std::uintptr_t>(address) -
                                                       reinterpret_cast<std::uintptr_t>(shared_.data()));
        const auto bytes = static_cast<std::intptr_t>(shared_.bytes());
        if (offset < 0 || offset > bytes - static_cast<std::intptr_t>(kCopyBytes))
            fail(thread, std::string("calls ") + call + " for 16 bytes at byte " + std::to_string(offset) + " of " +
                             std::to_string(bytes) + " bytes of shared memory");
        if (offset % static_cast<std::intptr_t>(kCopyBytes) != 0)
            fail(thread, std::string("calls ") + call + " at byte " + std::to_string(offset) +
                             " of shared memory, which is not aligned to 16 bytes");
        return static_cast<std::size_t>(offset) / kCopyBytes;
    }

    // Number of barriers that a warp has passed. Group barriers count after full barriers: a race between groups, which
    // only full barriers order, may go unnoticed.
    std::uint64_t barriers_of(int warp) const {
        return static_cast<std::uint64_t>(barriers_) << 32 | warps_[warp].group_syncs;
    }

    // Whether there is no barrier between the last copy and an access by a warp now.
    bool unordered_write(const Chunk& chunk, int warp) const {
        return chunk.writer >= 0 && chunk.write_barrier == barriers_of(warp) &&
               (chunk.writer / kLanes != warp || chunk.write_sync == warps_[warp].syncs);
    }

    static void read(Copy& copy) {
        if (copy.source) std::memcpy(&copy.data, copy.source, kCopyBytes);
        copy.source = nullptr;
    }

    void land(Copy& copy) {
        std::byte* const to = shared_.data() + copy.chunk * kCopyBytes;
        if (std::any_of(to, to + kCopyBytes, [](std::byte b) { return b != std::byte{0xff}; }))
            fail(current_,
                 "waits for its copy to" + at(copy.chunk) + ", which was written while the copy was under way");
        read(copy);
        std::memcpy(to, &copy.data, kCopyBytes);
        Chunk& chunk = chunks_[copy.chunk];
        chunk.in_flight = false;
        chunk.writer = current_;
        chunk.write_barrier = barriers_of(current_ / kLanes);
        chunk.write_sync = warps_[current_ / kLanes].syncs;
        chunk.shown = false;
        threads_[current_].unshown.push_back(copy.chunk);
    }

    static HeldSums* held_at(Thread& thread, const float* sums) {
        const auto is = [&](const HeldSums& held) { return held.place == sums; };
        const auto found = std::find_if(thread.held.begin(), thread.held.end(), is);
        return found == thread.held.end() ? nullptr : &*found;
    }

    void check_held(const HeldSums& held) {
        const auto untouched = [](float value) { return bits_of(value) == kHeld; };
        if (!std::all_of(held.place, held.place + kGroupSums, untouched))
            fail(current_, "writes to sums of a product of warpgroups under way");
    }

    void together(int warp) {
        const Operands(&operands)[kLanes] = warps_[warp].operands;
        switch (warps_[warp].meeting) {
            case State::kSyncWarp: ++warps_[warp].syncs; break;
            case State::kShuffle: {
                float values[kLanes];
                for (int lane = 0; lane < kLanes; ++lane) values[lane] = operands[lane].value;
                for (int lane = 0; lane < kLanes; ++lane) *operands[lane].sums = values[lane ^ operands[lane].mask];
                break;
            }
            case State::kLoad: load(warp, false); break;
            case State::kLoadTransposed: load(warp, true); break;
            case State::kMultiplyBf16: multiply_add<Bf16>(operands); break;
            case State::kMultiplyHalf: multiply_add<Half>(operands); break;
            case State::kMultiplyTf32: multiply_add<float>(operands); break;
            case State::kGroupProduct:
                if (operands[0].product->half)
                    multiply_group<Half>(warp);
                else
                    multiply_group<Bf16>(warp);
                break;
            default: break;
        }
    }

    // Reads 16 bytes of shared memory for a thread of a warp, in the collective operation of its state.
    Chunk& read_chunk(int thread, const void* from, std::uint16_t (&to)[8]) {
        const int warp = thread / kLanes;
        const char* const call = name(warps_[warp].meeting);
        const std::size_t place = chunk_at(thread, call, from);
        Chunk& chunk = chunks_[place];
        if (chunk.in_flight)
            fail(thread, std::string("calls ") + call + " at" + at(place) + ", where a copy is under way");
        if (unordered_write(chunk, warp))
            fail(thread, std::string("calls ") + call + " at" + at(place) + ", where thread " +
                             std::to_string(chunk.writer) + " copied to with no barrier since");
        if (chunk.read_barrier != barriers_of(warp)) chunk.readers = 0;
        chunk.read_barrier = barriers_of(warp);
        chunk.readers |= 1u << warp;
        std::memcpy(to, shared_.data() + place * kCopyBytes, kCopyBytes);
        return chunk;
    }

    // A warp's 16 rows of a warpgroup multiplication. The other operand, 64 rows of 128 bytes, is read by a unit that
    // sees threads' writes only after they made them visible and then passed a barrier.
    template <typename T>
    void multiply_group(int warp) {
        const Operands(&operands)[kLanes] = warps_[warp].operands;
        const GroupProduct& first = *operands[0].product;
        constexpr std::uintptr_t kAlignment = 1024;
        if (reinterpret_cast<std::uintptr_t>(first.rows) % kAlignment !=
            reinterpret_cast<std::uintptr_t>(shared_.data()) % kAlignment)
            fail(warp * kLanes, "multiplies rows of shared memory that are not aligned to 1024 bytes");
        float a[16][kGroupInner], b[kGroupInner][kGroupColumns];
        for (int lane = 0; lane < kLanes; ++lane) {
            const GroupProduct& own = *operands[lane].product;
            if (own.rows != first.rows || own.k != first.k || own.half != first.half)
                fail(warp * kLanes + lane, "multiplies other rows than its warp");
            for (int i = 0; i < 8; ++i) {
                const auto [row, column] = a_place(lane, i);
                a[row][column] = element<T>(own.given[i / 2], i % 2);
            }
        }
        for (int column = 0; column < kGroupColumns; ++column)
            for (int half = 0; half < 2; ++half) {
                const int unit = (2 * first.k + half) ^ (column & 7);
                const std::byte* const from = first.rows + column * kGroupRowBytes + unit * 16;
                std::uint16_t values[8];
                const Chunk& chunk = read_chunk(warp * kLanes, from, values);
                if (chunk.writer >= 0 && !(chunk.shown && chunk.show_barrier != barriers_of(warp)))
                    fail(warp * kLanes, "multiplies what thread " + std::to_string(chunk.writer) +
                                            " copied and did not show to products before a barrier");
                for (int i = 0; i < 8; ++i) b[8 * half + i][column] = widen(T{values[i]});
            }
        for (int lane = 0; lane < kLanes; ++lane)
            for (int block = 0; block < kGroupColumns / 8; ++block)
                for (int i = 0; i < 4; ++i) {
                    const auto [row, column] = sum_place(lane, i);
                    float& sum = operands[lane].sums[4 * block + i];
                    for (int inner = 0; inner < kGroupInner; ++inner)
                        sum += a[row][inner] * b[inner][8 * block + column];
                }
    }

    void load(int warp, bool transposed) {
        const Operands(&operands)[kLanes] = warps_[warp].operands;
        std::uint16_t rows[kLanes][8];
        for (int lane = 0; lane < kLanes; ++lane) read_chunk(warp * kLanes + lane, operands[lane].row, rows[lane]);
        for (int lane = 0; lane < kLanes; ++lane)
            for (int matrix = 0; matrix < 4; ++matrix) {
                const std::uint16_t (*const from)[8] = rows + 8 * matrix;
                const int major = lane / 4, minor = 2 * (lane % 4);
                const std::uint32_t low = transposed ? from[minor][major] : from[major][minor];
                const std::uint32_t high = transposed ? from[minor + 1][major] : from[major][minor + 1];
                operands[lane].matrices[matrix] = low | high << 16;
            }
    }

    const std::uint64_t seed_;
    Random& random_;
    const std::function<void()>& kernel_;
    SharedMemory shared_;
    std::vector<Chunk> chunks_;
    Stacks stacks_;
    Fiber host_;
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    std::uint32_t runnable_warps_ = 0;
    std::vector<int> priorities_;  // warps, which runs first
    std::uint32_t patience_ = 1;   // average number of steps between changes of the order
    bool by_priority_ = false, cancelled_ = false, quits_ = false;
    int current_ = 0, at_barrier_ = 0, ended_ = 0;
    std::uint32_t barriers_ = 0;  // sync_threads() so far
    std::exception_ptr error_;
};

Multiprocessor& multiprocessor() {
    if (!running) throw Error("an intrinsic of the GPU was called outside of a kernel");
    return *running;
}

}  // namespace

void launch(Dim3 grid, int threads, std::size_t shared_bytes, const Options& options,
            const std::function<void()>& kernel) {
    if (running) throw Error("a kernel cannot launch another one");
    if (threads < kLanes || threads > kMaxThreads || threads % kLanes != 0)
        throw Error("a block cannot have " + std::to_string(threads) + " threads: only multiples of 32 up to 1024");
    if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 0xffffu || grid.z > 0xffffu)
        throw Error("a grid cannot be of " + text(grid) + " blocks");
    if (shared_bytes > options.shared_limit)
        throw Error("a block cannot have " + std::to_string(shared_bytes) + " bytes of shared memory: the limit is " +
                    std::to_string(options.shared_limit));

    gridDim = grid;
    blockDim = {static_cast<unsigned>(threads), 1, 1};
    Random random(options.seed);
    std::vector<std::uint64_t> blocks(std::uint64_t{grid.x} * grid.y * grid.z);
    std::iota(blocks.begin(), blocks.end(), std::uint64_t{0});
    random.shuffle(blocks);
    Multiprocessor multiprocessor(threads, shared_bytes, options, random, kernel);
    for (const std::uint64_t block : blocks)
        multiprocessor.run({static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
                            static_cast<unsigned>(block / grid.x / grid.y)});
}

namespace detail {

std::byte* shared_memory() { return multiprocessor().shared_memory(); }
void sync_threads() { multiprocessor().sync_threads(); }
void sync_group(int group, int threads) { multiprocessor().sync_group(group, threads); }
void sync_warp() { multiprocessor().meet(State::kSyncWarp, {}); }

float shuffle_xor(float value, int mask) {
    Multiprocessor& self = multiprocessor();
    if (mask < 0 || mask >= kLanes)
        self.fail(self.current(),
                  "calls shuffle_xor with mask " + std::to_string(mask) + ", which no two lanes differ by");
    self.meet(State::kShuffle, {.sums = &value, .value = value, .mask = mask});
    return value;
}

void copy_async_16(void* shared, const void* global, bool valid) { multiprocessor().copy_async(shared, global, valid); }
void copy_async_commit() { multiprocessor().copy_async_commit(); }
void copy_async_wait(int pending) { multiprocessor().copy_async_wait(pending); }

void load_matrices(std::uint32_t (&to)[4], const void* row, bool transposed) {
    multiprocessor().meet(transposed ? State::kLoadTransposed : State::kLoad, {.row = row, .matrices = to});
}

void multiply_add_bf16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    multiprocessor().meet(State::kMultiplyBf16, {.sums = d, .a = a, .b = {b0, b1}});
}

void multiply_add_half(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    multiprocessor().meet(State::kMultiplyHalf, {.sums = d, .a = a, .b = {b0, b1}});
}

void multiply_add_tf32(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    Multiprocessor& self = multiprocessor();
    if (((a[0] | a[1] | a[2] | a[3] | b0 | b1) & kBeyondTf32) != 0)
        self.fail(self.current(), "multiplies floats that are not rounded to TF32");
    self.meet(State::kMultiplyTf32, {.sums = d, .a = a, .b = {b0, b1}});
}

void multiply_group(float (&d)[8][4], const std::uint32_t (&a)[4], const std::byte* rows, int k, bool half) {
    multiprocessor().multiply_group(&d[0][0], a, rows, k, half);
}
void order_products() { multiprocessor().order_products(); }
void commit_products() { multiprocessor().commit_products(); }
void wait_for_products(int pending) { multiprocessor().wait_for_products(pending); }
void show_to_products() { multiprocessor().show_to_products(); }

}  // namespace detail

}  // namespace srgan_fast::cuda::simt
