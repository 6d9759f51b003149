"""The bar that a careful writer of Triton reaches: search fused with the running argmax, float16 operands, tuned by trial.

`ResidualSearch` does all stages in one launch with the residual in registers, for dimensions up to 256; `FlatSearch`
reads vectors in pieces, for more. Scores are x·c − ½‖c‖² in float32.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def load_columns(codewords, tile, d, D: tl.constexpr, PADDED: tl.constexpr):
    """[PADDED][columns] of codewords[…][D], zeros from D on."""
    places = codewords + tile[None, :] * D + d[:, None]
    if D == PADDED:
        columns = tl.load(places)
    else:
        columns = tl.load(places, mask=(d < D)[:, None], other=0.0)
    return columns


# A loop over one stage is not unrolled: tuning by one stage then compiles what runs for all.
@triton.jit(do_not_specialize=["stages"])
def residual_kernel(
    vectors, half_codewords, codewords, half_norms, codes, count, size, stages,
    D: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, LATE: tl.constexpr,
):
    """vectors[count][D] float32; half_codewords, codewords[stages][size][D]; half_norms[stages][size]; codes[count][stages].

    LATE keeps a maximum for each column of the tile and compares columns once a stage, not once a tile.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    d = tl.arange(0, PADDED)
    within = d < D
    mask = inside[:, None] & within[None, :]
    residuals = tl.load(vectors + rows[:, None] * D + d[None, :], mask=mask, other=0.0)
    columns = tl.arange(0, COLUMNS)
    for stage in range(stages):
        operand = residuals.to(tl.float16)
        base = stage * size
        if LATE:
            best = tl.full((ROWS, COLUMNS), float("-inf"), tl.float32)
            first = tl.zeros((ROWS, COLUMNS), tl.int32)
            for start in range(0, size, COLUMNS):
                tile = base + start + columns
                other = load_columns(half_codewords, tile, d, D, PADDED)
                scores = tl.dot(operand, other) - tl.load(half_norms + tile)[None, :]
                better = scores > best
                best = tl.where(better, scores, best)
                first = tl.where(better, start, first)
            top = tl.max(best, axis=1)
            index = tl.min(tl.where(best == top[:, None], first + columns[None, :], size - 1), axis=1)
        else:
            top = tl.full((ROWS,), float("-inf"), tl.float32)
            index = tl.zeros((ROWS,), tl.int32)
            for start in range(0, size, COLUMNS):
                tile = base + start + columns
                other = load_columns(half_codewords, tile, d, D, PADDED)
                scores = tl.dot(operand, other) - tl.load(half_norms + tile)[None, :]
                tile_top, tile_index = tl.max(
                    scores, axis=1, return_indices=True, return_indices_tie_break_left=False
                )
                index = tl.where(tile_top > top, start + tile_index, index)
                top = tl.maximum(tile_top, top)
        tl.store(codes + rows * stages + stage, index, mask=inside)
        residuals -= tl.load(codewords + (base + index)[:, None] * D + d[None, :], mask=mask, other=0.0)


@triton.jit
def flat_kernel(
    vectors, codewords, half_norms, codes, count, size,
    D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):
    """vectors[count][D], codewords[size][D] float16; half_norms[size]; codes[count]. D is a multiple of DEPTH."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    columns = tl.arange(0, COLUMNS)
    depth = tl.arange(0, DEPTH)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    index = tl.zeros((ROWS,), tl.int32)
    for start in range(0, size, COLUMNS):
        tile = start + columns
        scores = tl.zeros((ROWS, COLUMNS), tl.float32)
        for piece in range(0, D, DEPTH):
            d = piece + depth
            operand = tl.load(vectors + rows[:, None] * D + d[None, :], mask=inside[:, None], other=0.0)
            other = tl.load(codewords + tile[None, :] * D + d[:, None])
            scores = tl.dot(operand, other, scores)
        scores -= tl.load(half_norms + tile)[None, :]
        tile_top, tile_index = tl.max(scores, axis=1, return_indices=True, return_indices_tie_break_left=False)
        index = tl.where(tile_top > top, start + tile_index, index)
        top = tl.maximum(tile_top, top)
    tl.store(codes + rows, index, mask=inside)


# (rows, columns, warps, pipeline stages, late), the likeliest first.
residual_forms = {
    64: [(128, 64, 4, 3, True), (128, 128, 8, 3, True), (128, 64, 4, 3, False), (64, 64, 4, 3, True), (256, 64, 8, 3, True)],
    128: [(128, 64, 8, 3, True), (128, 64, 8, 3, False), (128, 64, 4, 3, False), (64, 64, 4, 3, True), (128, 128, 8, 2, False)],
    256: [(64, 64, 8, 2, False), (128, 64, 8, 2, False), (64, 64, 4, 2, True), (64, 32, 4, 3, False), (128, 32, 8, 3, False)],
}
# (rows, columns, depth, warps, pipeline stages)
flat_forms = [(128, 128, 64, 8, 4), (128, 256, 64, 8, 3), (64, 128, 64, 4, 4), (128, 128, 32, 8, 4), (64, 64, 64, 4, 3)]


def next_power(value):
    return 1 << (value - 1).bit_length()


class ResidualSearch:
    """Codes by float32 codebooks[stages][size][D], size a multiple of 128."""

    def __init__(self, codebooks):
        self.codewords = codebooks.contiguous()
        self.half = codebooks.half().contiguous()
        self.half_norms = (codebooks * codebooks).sum(2).mul_(0.5).contiguous()
        self.form = None

    def forms(self, most):
        padded = max(16, next_power(self.codewords.shape[2]))
        return residual_forms[64 if padded <= 64 else padded][:most]

    def run(self, vectors, stages, form=None):
        rows, columns, warps, depth, late = form or self.form
        _, size, dim = self.codewords.shape
        count = len(vectors)
        codes = torch.empty((count, stages), dtype=torch.int32, device=vectors.device)
        residual_kernel[(triton.cdiv(count, rows),)](
            vectors, self.half, self.codewords, self.half_norms, codes, count, size, stages,
            D=dim, PADDED=max(16, next_power(dim)), ROWS=rows, COLUMNS=columns, LATE=late,
            num_warps=warps, num_stages=depth,
        )
        return codes


class FlatSearch:
    """The same for one stage and a dimension that is a multiple of 64."""

    def __init__(self, codebooks):
        self.half = codebooks[0].half().contiguous()
        self.half_norms = (codebooks[0] * codebooks[0]).sum(1).mul_(0.5).contiguous()
        self.form = None

    def forms(self, most):
        return flat_forms[:most]

    def run(self, vectors, stages, form=None):
        assert stages == 1
        rows, columns, depth, warps, pipeline = form or self.form
        size, dim = self.half.shape
        count = len(vectors)
        codes = torch.empty((count, 1), dtype=torch.int32, device=vectors.device)
        flat_kernel[(triton.cdiv(count, rows),)](
            vectors.half(), self.half, self.half_norms, codes, count, size,
            D=dim, ROWS=rows, COLUMNS=columns, DEPTH=depth, num_warps=warps, num_stages=pipeline,
        )
        return codes


def tune(search, vectors, most, milliseconds):
    """Takes the fastest of the first forms that run, by `milliseconds(call)`, on one stage; returns it in words."""
    times = []
    for form in search.forms(most):
        try:
            call = lambda form=form: search.run(vectors, 1, form)
            call()
            times.append((min(milliseconds(call) for _ in range(2)), form))
        except Exception as error:  # a tile that this card has no memory for
            torch.cuda.synchronize()
            reason = f"{type(error).__name__}: {error}"
    if not times:
        raise RuntimeError(f"no form runs: {reason}")
    search.form = min(times)[1]
    return f"{search.form}, of {len(times)}"
