// What a device's tensor cores do, by trying them.

#pragma once

namespace rvq::cuda {

struct ProductTest {
  // Sums are as exact as the screen's bound (screen_bound.h) takes for granted, by half at least, on sums made to lose
  // as many bits as they can. A device that is worse is not screened: its rows are compared with every codeword,
  // slowly.
  bool trusted;
  // The code that runs has wgmma: the device is of compute capability 9.0 and there is machine code for it.
  bool warpgroup;
  // There is code for limbs, and its products of int8 with int32 sums are right, as the instruction's description has
  // it.
  bool limbs;
};

// Measured once in a process for each device.
ProductTest test_products(int device);

}  // namespace rvq::cuda
