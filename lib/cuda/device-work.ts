// From which size on calls are worth a device.

/**
 * With `"auto"`, calls of fewer multiply-adds (additions where nothing is multiplied) go to the processor: it has the answer before
 * the device has been asked. Estimates, until they are measured on a device.
 */
export const smallestDeviceWork = {
  encode: 4e6,
  assign: 4e6,
  // What reads every element but once is bound by the bus, which is slower than the processor's own memory.
  decode: 3e7,
  distances: 3e7,
  accumulate: 3e7,
  lowerDistances: Number.POSITIVE_INFINITY,
  // Rows that are there already: elements.
  lowerHeldDistances: 3e6,
  hold: 1e6,
  // The search of a whole step of learning, or of an iteration of k-means: it has more calls to wait for, and its codebooks are prepared for it alone.
  step: 1e8,
} as const;
