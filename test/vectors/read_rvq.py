"""Reads a .rvq file as docs/format.md describes it, in plain Python: a second reader that shares no code with the first.

    python3 read_rvq.py file.rvq        prints header, summary, codes and stage counts as one line of JSON

It reads sound files only: anything else is an error.
"""

import json
import struct
import sys

KNOTS = [1, 2, 4, 6, 10, 17, 27, 45, 74, 120, 194, 311, 488, 747, 1102, 1546, 2048, 2550, 2994, 3349, 3608,
         3785, 3902, 3976, 4022, 4051, 4069, 4079, 4086, 4090, 4092, 4094, 4095]
MASK = 0xFFFFFFFF


def crc32c(data):
    crc = MASK
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ MASK


def squash(x):
    k, w = (x >> 7) + 16, x & 127
    return (KNOTS[k] * (128 - w) + KNOTS[k + 1] * w + 64) >> 7


def make_stretch():
    stretch = []
    for x in range(-2047, 2048):
        stretch += [x] * (squash(x) + 1 - len(stretch))
    return stretch + [2047] * (4096 - len(stretch))


STRETCH = make_stretch()


def bits_of(size):
    return (size - 1).bit_length()


class BitDecoder:
    def __init__(self, data):
        self.data, self.next, self.low, self.high, self.value = data, 0, 0, MASK, 0
        for _ in range(4):
            self.value = self.value << 8 | self.byte()

    def byte(self):
        self.next += 1
        assert self.next <= len(self.data) + 4, "the section ends too early"
        return self.data[self.next - 1] if self.next <= len(self.data) else 0

    def bit(self, p):
        p = max(32, min(4064, p))
        middle = self.low + ((self.high - self.low) >> 12) * p
        bit = 1 if self.value <= middle else 0
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 24 == self.high >> 24:
            self.low = self.low << 8 & MASK
            self.high = (self.high << 8 | 255) & MASK
            self.value = (self.value << 8 | self.byte()) & MASK
        return bit


class Static:
    def __init__(self, table):
        self.table = table

    def p(self, node, depth):
        return self.table[node] >> 4

    def update(self, bit):
        pass


class Slots:
    def __init__(self, table_bits):
        self.shift, self.p, self.count = 32 - table_bits, {}, {}

    def find(self, key):
        at = (key * 0x9E3779B1 & MASK) >> self.shift
        return at, self.p.get(at, 32768), self.count.get(at, 0)

    def learn(self, at, bit):
        p, count = self.p.get(at, 32768), self.count.get(at, 0)
        self.p[at] = p + (((65535 * bit - p) * (32768 // (2 * count + 3))) >> 14)
        self.count[at] = min(255, count + 1)


class Adaptive:
    def __init__(self, table_bits):
        self.slots, self.at = Slots(table_bits), 0

    def p(self, node, depth):
        self.at, p, _ = self.slots.find(node)
        return p >> 4

    def update(self, bit):
        self.slots.learn(self.at, bit)


class Mixed:
    def __init__(self, table_bits, contexts):
        self.slots = [Slots(table_bits) for _ in range(contexts)]
        self.weights = [[25000] * contexts for _ in range(24)]
        self.contexts = [0] * contexts

    def p(self, node, depth):
        self.depth, self.found, self.inputs, total = depth, [], [], 0
        for slots, context, weight in zip(self.slots, self.contexts, self.weights[depth]):
            at, p, count = slots.find(context + node)
            self.found.append(at)
            self.inputs.append((STRETCH[p >> 4] * (256 * count // (count + 1))) >> 8)
            total += (self.inputs[-1] * weight) >> 8
        self.mixed = max(32, min(4064, squash(max(-2047, min(2047, total >> 8)))))
        return self.mixed

    def update(self, bit):
        error = 4096 * bit - self.mixed
        weights = self.weights[self.depth]
        for i, slots in enumerate(self.slots):
            weight = weights[i] + ((self.inputs[i] * error + 512) >> 10)
            weights[i] = max(-2 ** 19, min(2 ** 19, weight))
            slots.learn(self.found[i], bit)


def add(x, v):
    y = (x + v + 1) * 0x2C1B3C6D & MASK
    return y ^ (y >> 15)


def read_section(data, coding, size, stage, codes, frames, table):
    """The codes of one stage, a list with None for frames that do not have it; codes[s] are the stages before."""
    bits, count = bits_of(size), len(frames)
    out = [None] * len(codes[0]) if stage > 0 else [None] * (max(frames, default=-1) + 1)
    assert len(data) <= (count * bits + 7) // 8, "longer than packed"
    if coding == 0:
        assert len(data) == (count * bits + 7) // 8
        packed = int.from_bytes(data, "little")
        for i, frame in enumerate(frames):
            out[frame] = packed >> (i * bits) & ((1 << bits) - 1)
            assert out[frame] < size
        return out
    decoder = BitDecoder(data)
    table_bits = max(10, (min(2 ** 18, 4 * count * bits) - 1).bit_length())
    if coding == 1:
        model = Static(table)
    elif coding == 2:
        model = Adaptive(table_bits)
    else:
        model = Mixed(table_bits, [2, 4, 5][stage] if stage < 3 else 6)
    before = 0
    for frame in frames:
        if coding == 3:
            contexts = [0, add(0, before)]
            if stage >= 1:
                above = codes[stage - 1][frame]
                contexts += [add(0, above), add(contexts[1], above)]
            if stage >= 2:
                contexts.append(add(0, codes[0][frame]))
            if stage >= 3:
                contexts.append(add(0, codes[stage - 2][frame]))
            model.contexts = contexts
        node = 1
        for depth in range(bits):
            left = bits - 1 - depth
            bit = 0
            if (2 * (node - (1 << depth)) + 1) << left < size:
                bit = decoder.bit(model.p(node, depth))
                model.update(bit)
            node = 2 * node + bit
        out[frame] = node - (1 << bits)
        before = out[frame] + 1
    return out


def read_header(data):
    assert data[:8] == b"\x89RVQ\r\n\x1a\n"
    version, stages, length = struct.unpack_from("<HHI", data, 8)
    assert version == 1
    rate, metadata_bytes, table_bytes = struct.unpack_from("<dII", data, 48)
    assert length == 64 + 4 * stages + metadata_bytes + table_bytes + 4
    tag, = struct.unpack_from("<I", data, length - 4)
    assert crc32c(data[:length - 4]) == tag
    sizes = list(struct.unpack_from(f"<{stages}I", data, 64))
    metadata = json.loads(data[64 + 4 * stages:length - 4 - table_bytes])
    tables, at = [], length - 4 - table_bytes
    if table_bytes > 0:
        for size in sizes:
            entries = 2 ** bits_of(size) - 1
            tables.append([0, *struct.unpack_from(f"<{entries}H", data, at)])
            at += 2 * entries
    return {"model": data[16:48].hex(), "sizes": sizes, "rate": rate, "metadata": metadata}, tables, length, tag


def read_chunk(data, at, sizes, tables, tag):
    assert data[at:at + 4] == b"RVQC"
    crc, found, frames, first, stages, most = struct.unpack_from("<IIIQHH", data, at + 4)
    assert found == tag and stages == len(sizes)
    entries = stages + (1 if most > 0 else 0)
    header_end = at + 28 + 8 * entries
    assert crc32c(data[at + 8:header_end]) == crc
    start, sections = header_end, []
    for i in range(entries):
        word, section_crc = struct.unpack_from("<II", data, at + 28 + 8 * i)
        content = data[start:start + (word & 0xFFFFFF)]
        assert crc32c(content) == section_crc
        sections.append((content, word >> 24))
        start += word & 0xFFFFFF
    counts = [stages] * frames
    if most > 0:
        content, coding = sections.pop(0)
        counts = [min(n, stages) for n in read_section(content, coding, most + 1, 0, [], range(frames), None)]
    codes = []
    for stage, (content, coding) in enumerate(sections):
        present = [frame for frame in range(frames) if counts[frame] > stage]
        codes.append(read_section(content, coding, sizes[stage], stage, codes, present, tables[stage] if tables else None))
        codes[stage] += [None] * (frames - len(codes[stage]))
    rows = [[codes[stage][frame] for stage in range(counts[frame])] for frame in range(frames)]
    return first, rows


def read(data):
    header, tables, header_length, tag = read_header(data)
    length, = struct.unpack_from("<I", data, len(data) - 8)
    index = data[len(data) - length:]
    assert data[-4:] == b"RVQZ" and index[:4] == b"RVQE"
    assert struct.unpack_from("<I", index, 4)[0] == length
    assert crc32c(index[:-12]) == struct.unpack_from("<I", index, length - 12)[0]
    chunks, summary_bytes = struct.unpack_from("<II", index, 8)
    assert index[16 + 12 * chunks:16 + 12 * chunks + header_length] == data[:header_length]
    header["summary"] = json.loads(index[length - 12 - summary_bytes:length - 12])
    rows = []
    for i in range(chunks):
        offset, frames = struct.unpack_from("<QI", index, 16 + 12 * i)
        first, some = read_chunk(data, offset, header["sizes"], tables, tag)
        assert first == len(rows) and len(some) == frames
        rows += some
    return {**header, "frames": rows}


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        print(json.dumps(read(file.read())))
