// What libstdc++ takes from glibc 2.32, for systems whose glibc is older: the answer that it must count with locks.

extern "C" {
[[gnu::visibility("hidden")]] char __libc_single_threaded = 0;
}
