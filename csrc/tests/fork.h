// Forks, where there are any that can be tested: SRGAN_FAST_FORKS. Windows has none, and neither the thread sanitizer
// nor QEMU can follow the fork of a process with several threads.
#pragma once

#if !defined(_WIN32) && !defined(__SANITIZE_THREAD__) && !defined(SRGAN_FAST_EMULATED)
#define SRGAN_FAST_FORKS

#include <sys/wait.h>
#include <unistd.h>

namespace srgan_fast::tests {

// Whether `work` is true in a forked process, which after 20 seconds is killed.
template <typename Work>
bool is_true_in_fork(const Work& work) {
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(work() ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace srgan_fast::tests

#endif
