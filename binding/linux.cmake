# What linking the addon takes on Linux, so that it loads on systems older than the one it is built on: glibc 2.28 and newer, as
# Node 20 itself. scripts/glibc-floor.mjs checks what a release asks for.

# Never unloaded: the pool's threads run code of this library when the worker that loaded it has gone.
target_link_options(rvq PRIVATE -Wl,-z,nodelete)
if(RVQ_SANITIZE)
  return()
endif()

# libstdc++ inside, libgcc not (exceptions must work across libraries). Its symbols are hidden, so that what nobody uses is dropped,
# and with it the need for newer functions of glibc.
target_link_options(rvq PRIVATE -static-libstdc++ -Wl,--gc-sections -Wl,--exclude-libs,ALL)

include(CheckCXXSymbolExists)
check_cxx_symbol_exists(__GLIBC__ features.h RVQ_GLIBC)
if(NOT RVQ_GLIBC)
  return()
endif()
# libstdc++ asks this variable of glibc 2.32 whether it can count without a lock.
target_sources(rvq PRIVATE binding/old_glibc.cpp)

# glibc 2.34 moved the functions of its smaller libraries into libc, under new versions, and what is linked there asks for those.
# Here empty libraries stand in for the old ones while linking: the linker finds the functions in them first, and asks for the
# versions that every glibc has. Where the addon is loaded, the real ones are found.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(RVQ_FIRST_GLIBC GLIBC_2.17)
  set(RVQ_DLMOPEN_GLIBC GLIBC_2.17)
else()
  set(RVQ_FIRST_GLIBC GLIBC_2.2.5)
  set(RVQ_DLMOPEN_GLIBC GLIBC_2.3.4)
endif()

# rvq_stand_in(<library> <file name when loaded> <function>...), a function also as <function>@<version>
function(rvq_stand_in library file_name)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/stand-ins)
  set(code "")
  foreach(function IN LISTS ARGN)
    set(version ${RVQ_FIRST_GLIBC})
    if(function MATCHES "^(.+)@(.+)$")
      set(function ${CMAKE_MATCH_1})
      set(version ${CMAKE_MATCH_2})
    endif()
    if(NOT version IN_LIST known)
      list(APPEND known ${version})
    endif()
    list(APPEND functions_${version} ${function})
    string(APPEND code "extern \"C\" void ${function}() {}\n")
  endforeach()
  set(versions "")
  foreach(version IN LISTS known)
    list(JOIN functions_${version} "; " names)
    string(APPEND versions "${version} { global: ${names}; };\n")
  endforeach()
  file(WRITE ${folder}/${library}.cpp "${code}")
  file(WRITE ${folder}/${library}.map "${versions}")
  add_library(rvq_${library} SHARED ${folder}/${library}.cpp)
  set_target_properties(rvq_${library} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${folder} NO_SONAME ON
    CXX_VISIBILITY_PRESET default)
  target_compile_options(rvq_${library} PRIVATE -fno-builtin)
  target_link_options(rvq_${library} PRIVATE -nostdlib -Wl,--soname=${file_name}
    -Wl,--version-script=${folder}/${library}.map)
  target_link_libraries(rvq PRIVATE rvq_${library})
endfunction()

# The functions that the core and CUDA's static runtime use; a build that lacks one asks for 2.34, which the check then says.
rvq_stand_in(pthread libpthread.so.0
  pthread_condattr_setpshared pthread_create pthread_detach pthread_getspecific pthread_join pthread_key_create
  pthread_key_delete pthread_kill pthread_mutex_trylock pthread_mutexattr_destroy pthread_mutexattr_init
  pthread_mutexattr_setpshared pthread_mutexattr_settype pthread_once pthread_rwlock_destroy pthread_rwlock_init
  pthread_rwlock_rdlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock pthread_rwlock_tryrdlock
  pthread_rwlock_trywrlock pthread_rwlock_unlock pthread_rwlock_wrlock pthread_rwlockattr_destroy
  pthread_rwlockattr_init pthread_rwlockattr_setpshared pthread_setspecific pthread_spin_destroy pthread_spin_init
  pthread_spin_lock pthread_spin_trylock pthread_spin_unlock sem_destroy sem_init sem_post sem_timedwait sem_trywait
  sem_wait)
rvq_stand_in(dl libdl.so.2 dlclose dlerror dlmopen@${RVQ_DLMOPEN_GLIBC} dlopen dlsym dlvsym)
rvq_stand_in(rt librt.so.1 shm_open shm_unlink)
# Else the addon would load the empty ones.
set_target_properties(rvq PROPERTIES SKIP_BUILD_RPATH ON)
# CUDA's runtime comes after them on the command line.
target_link_options(rvq PRIVATE -Wl,--no-as-needed)
