// The binary arithmetic coder under every entropy-coded section: exact in 32-bit integers, so the same bytes everywhere.
//
// An interval [low, high] of 32-bit integers shrinks with every bit to the part that the bit's probability gives it; leading
// bytes on which both ends agree are written and shifted out (the coder of Mahoney's paq family). A decoder reads zeros after the
// end of its bytes; an encoder's bytes never make it read more than four.

/** Probabilities given to the coder are in 4096ths. */
const probabilityBits = 12;

/**
 * The smallest probability; the largest is 4096 less it. Nothing then takes less than 0.011 bits, which bounds how long a few hostile
 * bytes can keep a decoder busy, and costs a constant code less than 0.1 bits.
 */
const smallestProbability = 32;

/** A probability that may be given to the coder. */
export function bounded(p: number): number {
  return Math.max(smallestProbability, Math.min(2 ** probabilityBits - smallestProbability, p));
}

export class BitEncoder {
  private bytes = new Uint8Array(256);
  private length = 0;
  /** low and high; a typed array keeps 32-bit integers out of the heap. */
  private readonly ends = Uint32Array.of(0, 0xffffffff);

  /** @param p probability of a one, `bounded` */
  encode(bit: number, p: number): void {
    const { ends } = this;
    const low = ends[0];
    const high = ends[1];
    const middle = low + ((high - low) >>> probabilityBits) * p;
    if (bit !== 0) ends[1] = middle;
    else ends[0] = middle + 1;
    while ((ends[0] ^ ends[1]) >>> 24 === 0) this.shift();
  }

  /** The bytes of all bits so far; the coder is used up. */
  finish(): Uint8Array {
    const [low, high] = this.ends;
    // The ends differ in their first byte: the upper one's, followed by zeros, lies between them.
    if (low > 0) this.push(high >>> 24);
    return this.bytes.slice(0, this.length);
  }

  get sizeBytes(): number {
    return this.length;
  }

  private shift(): void {
    const { ends } = this;
    this.push(ends[1] >>> 24);
    ends[0] <<= 8;
    ends[1] = (ends[1] << 8) | 0xff;
  }

  private push(byte: number): void {
    if (this.length === this.bytes.length) {
      const larger = new Uint8Array(2 * this.length);
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.bytes[this.length++] = byte;
  }
}

export class BitDecoder {
  private next = 0;
  /** low, high and the value being decoded. */
  private readonly ends = Uint32Array.of(0, 0xffffffff, 0);

  constructor(private readonly bytes: Uint8Array) {
    for (let i = 0; i < 4; i++) this.ends[2] = (this.ends[2] << 8) | this.read();
  }

  /** @param p probability of a one, as it was for the encoder */
  decode(p: number): number {
    const { ends } = this;
    const low = ends[0];
    const high = ends[1];
    const middle = low + ((high - low) >>> probabilityBits) * p;
    const bit = ends[2] <= middle ? 1 : 0;
    if (bit !== 0) ends[1] = middle;
    else ends[0] = middle + 1;
    while ((ends[0] ^ ends[1]) >>> 24 === 0) {
      ends[0] <<= 8;
      ends[1] = (ends[1] << 8) | 0xff;
      ends[2] = (ends[2] << 8) | this.read();
    }
    return bit;
  }

  /** Whether more was read than an encoder's bytes make a decoder read. */
  get overrun(): boolean {
    return this.next > this.bytes.length + 4;
  }

  private read(): number {
    const byte = this.next < this.bytes.length ? this.bytes[this.next] : 0;
    this.next++;
    return byte;
  }
}
