"""Quantizes vectors with the quantizer in a DAC, Mimi or vector-quantize-pytorch checkpoint as docs/exactness.md defines it, in plain
Python: a second implementation that shares no code with the first.

    python3 quantize_checkpoint.py checkpoint.safetensors vectors.json

vectors.json is a list of vectors; prints {"codes": [vectors][stages], "reconstructions": [vectors][dim]} as one line of JSON.
"""

import json
import math
import re
import struct
import sys


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def read_safetensors(path):
    data = open(path, "rb").read()
    length, = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        numbers = struct.unpack_from(f"<{(end - begin) // 4}f", data, 8 + length + begin)
        tensors[name] = (entry["shape"], list(numbers))
    return tensors


def rows(tensor):
    shape, data = tensor
    width = shape[-1] if shape[-1] != 1 or len(shape) < 3 else shape[-2]
    return [data[i:i + width] for i in range(0, len(data), width)]


class Linear:
    """A linear layer or a convolution of kernel size 1, weight-normalized or not."""

    def __init__(self, tensors, name):
        new = name + ".parametrizations.weight.original"
        if name + ".weight" in tensors:
            self.weight = rows(tensors[name + ".weight"])
        else:
            old = name + ".weight_v" in tensors
            length = tensors[name + ".weight_g" if old else new + "0"][1]
            self.weight = []
            for g, v in zip(length, rows(tensors[name + ".weight_v" if old else new + "1"])):
                total = 0.0
                for x in v:
                    total += x * x
                scale = g / math.sqrt(total)
                self.weight.append([f32(x * scale) for x in v])
        self.bias = tensors[name + ".bias"][1] if name + ".bias" in tensors else [0.0] * len(self.weight)

    def __call__(self, x):
        out = []
        for weight, total in zip(self.weight, self.bias):
            for w, value in zip(weight, x):
                total += w * value
            out.append(f32(total))
        return out


def lanes(terms):
    s = [0.0] * 8
    for i, term in enumerate(terms):
        s[i % 8] += term
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


def unit(x):
    norm = math.sqrt(lanes([v * v for v in x]))
    return [f32(v / norm) for v in x] if norm > 0 else None


def search(x, codebook, cosine):
    if cosine:
        x, codebook = unit(x), [unit(c) for c in codebook]
        if x is None:
            return 0
    distances = [lanes([(a - b) * (a - b) for a, b in zip(x, c)]) for c in codebook]
    return distances.index(min(distances))


def residual_search(x, codebooks, cosine=False):
    """Codes, and the sum of their codewords."""
    codes, total = [], [0.0] * len(x)
    for codebook in codebooks:
        code = search(x, codebook, cosine)
        codes.append(code)
        x = [f32(a - b) for a, b in zip(x, codebook[code])]
        total = [f32(a + b) for a, b in zip(total, codebook[code])]
    return codes, total


def count(tensors, pattern):
    return len([name for name in tensors if re.fullmatch(pattern, name)])


def dac(tensors, x):
    codes, total = [], [0.0] * len(x)
    for i in range(count(tensors, r"quantizer\.quantizers\.\d+\.codebook\.weight")):
        base = f"quantizer.quantizers.{i}."
        z_e = Linear(tensors, base + "in_proj")(x)
        code, e = residual_search(z_e, [rows(tensors[base + "codebook.weight"])], cosine=True)
        z_q = Linear(tensors, base + "out_proj")(e)
        codes += code
        total = [f32(a + b) for a, b in zip(total, z_q)]
        x = [f32(a - b) for a, b in zip(x, z_q)]
    return codes, total


def mimi(tensors, x):
    codes, total = [], [0.0] * len(x)
    for base in ["quantizer.rvq_first", "quantizer.rvq_rest"]:
        codebooks = []
        for i in range(count(tensors, re.escape(base) + r"\.vq\.layers\.\d+\._codebook\.embedding_sum")):
            layer = f"{base}.vq.layers.{i}._codebook."
            usage = [max(u, f32(1e-5)) for u in tensors[layer + "cluster_usage"][1]]
            codebooks.append([[f32(s / u) for s in row] for row, u in zip(rows(tensors[layer + "embedding_sum"]), usage)])
        part, decoded = residual_search(Linear(tensors, base + ".input_proj")(x), codebooks)
        codes += part
        total = [f32(a + b) for a, b in zip(total, Linear(tensors, base + ".output_proj")(decoded))]
    return codes, total


def vq(tensors, x):
    layers = count(tensors, r"layers\.\d+\._codebook\.embed")
    codebooks = [rows(tensors[f"layers.{i}._codebook.embed"]) for i in range(layers)]
    codes, decoded = residual_search(Linear(tensors, "project_in")(x), codebooks)
    return codes, Linear(tensors, "project_out")(decoded)


def main():
    tensors = read_safetensors(sys.argv[1])
    family = dac if any(".quantizers." in name for name in tensors) else mimi if any("rvq_first" in name for name in tensors) else vq
    results = [family(tensors, x) for x in json.load(open(sys.argv[2]))]
    print(json.dumps({"codes": [codes for codes, _ in results], "reconstructions": [total for _, total in results]}))


main()
