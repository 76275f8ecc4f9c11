// Launches from several host threads on one GPU, against a runtime that keeps each kernel's shared memory as CUDA does:
// the last that was asked for, regardless of the thread.
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "kernels/cuda/launch.cuh"
#include "tests/check.h"

namespace {

using namespace srgan_fast::cuda;
using srgan_fast::tests::check;

std::mutex mutex;
std::map<std::pair<int, const void*>, int> shared_of;  // by device and kernel
thread_local int current = 0;                          // device
std::atomic<int> asked{0}, questions{0}, early_launches{0};
bool waits = false;

struct Params {};
void kernel(Params) {}
void other_kernel(Params) {}

const char* launch_with(int shared) { return launch<Params>(kernel, Grid{1, 1, 1}, 32, shared, {}, nullptr); }

void test_threads() {
    constexpr int kMore = 100 * 1024, kLess = 60 * 1024;
    waits = true;
    const char *more = nullptr, *less = nullptr;
    std::thread first([&] { more = launch_with(kMore); });
    while (asked == 0) std::this_thread::yield();
    std::thread second([&] { less = launch_with(kLess); });
    first.join(), second.join();
    waits = false;
    check(more == nullptr && less == nullptr, "two threads launch a kernel with different shared memory");
    const int before = asked;
    for (int i = 0; i < 3; ++i)
        check(launch_with(kLess) == nullptr && launch_with(kMore) == nullptr, "launches in turns");
    check(asked == before, "what was allowed is not asked for again");
    check(launch_with(16) == nullptr && asked == before, "little is not asked for");
    check(launch_with(kMore + 1) == nullptr && asked == before + 1, "more is");
    current = 1;
    check(launch_with(kMore) == nullptr && asked == before + 2, "each device is asked");
    current = 0;
    const char* const refused = launch_with(300 * 1024);
    check(refused != nullptr && std::string(refused) == "refused", "what CUDA says");
    check(launch_with(kMore) == nullptr, "a refusal changes nothing");
}

void test_early() {
    for (int i = 0; i < 3; ++i) {
        check(launch_early<Params>(kernel, Grid{1, 1, 1}, 32, 0, {}, nullptr) == nullptr, "of 90");
        check(launch_early<Params>(other_kernel, Grid{1, 1, 1}, 32, 0, {}, nullptr) == nullptr, "of 80");
    }
    check(early_launches == 3, "those begin early that were compiled for it");
    check(questions == 2, "each is asked once");
}

}  // namespace

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "refused"; }
cudaError_t cudaGetDevice(int* device) {
    *device = current;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* of, cudaFuncAttribute, int value) {
    if (value > 227 * 1024) return cudaErrorInvalidValue;
    {
        const std::lock_guard lock(mutex);
        shared_of[{current, of}] = value;
    }
    const int own = ++asked;
    // The other thread gets the time to ask for less.
    for (int i = 0; waits && i < 100 && asked == own; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* of) {
    ++questions;
    attributes->ptxVersion = of == reinterpret_cast<const void*>(&kernel) ? 90 : 80;
    return cudaSuccess;
}
cudaError_t launch_for_test(const cudaLaunchConfig_t& config, const void* of) {
    early_launches += static_cast<int>(config.numAttrs);
    const std::lock_guard lock(mutex);
    const auto found = shared_of.find({current, of});
    const int allowed = found == shared_of.end() ? kOrdinaryShared : found->second;
    return config.dynamicSmemBytes <= static_cast<std::size_t>(allowed) ? cudaSuccess : cudaErrorInvalidValue;
}

int main() {
    test_threads();
    test_early();
    return srgan_fast::tests::finish();
}
