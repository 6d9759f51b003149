"""What computes codes on the GPU beside rvq: PyTorch, flash-kmeans, Triton.

A peer is a function of (data, stages) that returns codes[rows][stages], or a prefix of the rows; between stages PyTorch
subtracts the codewords. `all_peers` says which exist for a shape.
"""

import functools
import importlib.util

import torch

# Of a matrix of scores at most, and a sixth of the card's memory: more is split into pieces of rows.
score_bytes = 2**33
if torch.cuda.is_available():
    score_bytes = min(score_bytes, torch.cuda.get_device_properties(0).total_memory // 6)
# Distances in float64 are slow on most cards: fewer rows, and the time is scaled up.
exact_rows = 65536


class Data:
    """vectors[count][dim] and codebooks[stages][size][dim], float32 on the device."""

    def __init__(self, vectors, codebooks):
        self.vectors = vectors
        self.codebooks = codebooks
        self.half_norms = (codebooks * codebooks).sum(2) / 2

    @functools.cached_property
    def float64(self):
        return self.codebooks.double()


def in_stages(assign):
    """A peer of a search by one codebook: assign(data, residuals, stage) gives the codes of the stage."""

    def encode(data, stages):
        residuals = data.vectors
        codes = torch.empty((len(residuals), stages), dtype=torch.int32, device=residuals.device)
        for stage in range(stages):
            chosen = assign(data, residuals, stage)
            codes[:, stage] = chosen
            if stage + 1 < stages:
                residuals = residuals - data.codebooks[stage][chosen]
        return codes

    return encode


def by_rows(data, residuals, search):
    """search(rows) over pieces whose scores fit in memory."""
    rows = max(1, score_bytes // (4 * data.codebooks.shape[1]))
    if rows >= len(residuals):
        return search(residuals)
    return torch.cat([search(residuals[first : first + rows]) for first in range(0, len(residuals), rows)])


def cdist_assign(data, residuals, stage):
    return by_rows(data, residuals, lambda rows: torch.cdist(rows, data.codebooks[stage]).argmin(1))


def matmul_assign(data, residuals, stage):
    transposed, half_norms = data.codebooks[stage].T, data.half_norms[stage]
    return by_rows(data, residuals, lambda rows: (rows @ transposed - half_norms).argmax(1))


def exact_encode(data, stages):
    """Distances in float64, which cdist takes from a matrix product; float32 residuals."""
    residuals = data.vectors[:exact_rows]
    codes = torch.empty((len(residuals), stages), dtype=torch.int32, device=residuals.device)
    for stage in range(stages):
        search = lambda rows: torch.cdist(rows.double(), data.float64[stage]).argmin(1)
        chosen = by_rows(data, residuals, search)
        codes[:, stage] = chosen
        residuals = residuals - data.codebooks[stage][chosen]
    return codes


def compiled_encode(low_precision):
    """matmul, argmax and the residual of a stage in what torch.compile makes of them; one compilation for all stages."""

    def step(residuals, operand, codewords, half_norms):
        left = residuals.to(operand.dtype)
        chosen = ((left @ operand).float() - half_norms).argmax(1)
        return chosen, residuals - codewords[chosen]

    compiled = torch.compile(step, dynamic=False)
    prepared = {}

    def encode(data, stages):
        if prepared.get("data") is not data:
            operands = data.codebooks.bfloat16() if low_precision else data.codebooks
            prepared.update(data=data, operands=operands)
        residuals = data.vectors
        codes = torch.empty((len(residuals), stages), dtype=torch.int32, device=residuals.device)
        for stage in range(stages):
            operand, codewords = prepared["operands"][stage].T, data.codebooks[stage]
            chosen, residuals = compiled(residuals, operand, codewords, data.half_norms[stage])
            codes[:, stage] = chosen
        return codes

    return encode


def flash_encode(data, stages):
    """flash-kmeans with its inputs prepared by PyTorch before every stage."""
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    def assign(data, residuals, stage):
        operand = residuals.half()[None]
        codewords = data.codebooks[stage].half()[None]
        norms = (operand.float() ** 2).sum(2)
        return euclid_assign_triton(operand, codewords, norms)[0].long()

    return in_stages(assign)(data, stages)


def flash_kernels():
    """flash-kmeans' assignment alone, once for each stage, on vectors that are float16 already. Codes: none."""
    prepared = {}

    def encode(data, stages):
        from flash_kmeans.assign_euclid_triton import euclid_assign_triton

        if prepared.get("data") is not data:
            operand = data.vectors.half()[None]
            prepared.update(data=data, operand=operand, norms=(operand.float() ** 2).sum(2))
            prepared.update(codebooks=data.codebooks.half(), squares=2 * data.half_norms)
            prepared.update(out=torch.empty(operand.shape[:2], dtype=torch.int32, device=operand.device))
        for stage in range(stages):
            codewords, squares = prepared["codebooks"][stage][None], prepared["squares"][stage][None]
            euclid_assign_triton(prepared["operand"], codewords, prepared["norms"], out=prepared["out"], c_sq=squares)
        return None

    return encode


def triton_encode(forms, milliseconds):
    """The kernels of triton_search.py, tuned at their first call for a data set, by so many forms."""
    import triton_search

    tuned = {}

    def encode(data, stages):
        if tuned.get("data") is not data:
            search = triton_search.FlatSearch if data.vectors.shape[1] > 256 else triton_search.ResidualSearch
            tuned.update(data=data, search=search(data.codebooks))
            encode.note = triton_search.tune(tuned["search"], data.vectors, forms, milliseconds)
        return tuned["search"].run(data.vectors, stages)

    return encode


def all_peers(milliseconds, forms, compile_too):
    """name → function, of what is installed; each call makes new ones, which hold nothing of earlier data."""
    peers = {
        "PyTorch cdist": in_stages(cdist_assign),
        "PyTorch matmul": in_stages(matmul_assign),
        "PyTorch float64": exact_encode,
    }
    if importlib.util.find_spec("triton"):
        peers["Triton, fused"] = triton_encode(forms, milliseconds)
        if importlib.util.find_spec("flash_kmeans"):
            peers["flash-kmeans"] = flash_encode
            peers["flash-kmeans, assign alone"] = flash_kernels()
        if compile_too:
            peers["compiled TF32"] = compiled_encode(False)
            peers["compiled bf16"] = compiled_encode(True)
    return peers
