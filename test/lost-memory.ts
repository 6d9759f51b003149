// Takes memory away from arrays, as callers may at any time.

/** Types of Node 20 that the target of the compiler does not have. */
type ResizableBuffer = ArrayBuffer & { resize(bytes: number): void };
type ResizableBufferConstructor = new (bytes: number, options: { maxByteLength: number }) => ResizableBuffer;

/** Gives away the memory of a view, which is empty from now on. */
export function detach<View extends { readonly buffer: ArrayBufferLike }>(view: View): View {
  structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] });
  return view;
}

/** A buffer that can be made smaller. */
export function resizable(bytes: number): ResizableBuffer {
  return new (ArrayBuffer as object as ResizableBufferConstructor)(bytes, { maxByteLength: bytes });
}
