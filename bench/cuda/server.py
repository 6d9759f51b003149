"""PyTorch and Triton at the service of bench/cuda.bench.mts: one JSON request a line on stdin, one JSON answer a line on stdout.

Matrices go as files of little-endian numbers, row-major. An operation that fails answers {"error": text} and the next may work.
  {"op": "card"}      answers what the card is, and the versions
  {"op": "open", "folder": f, "dim": D, "size": K, "stages": S, "rows": N, "distinct": M, "seed": s, "forms": n, "compile": bool}
                      makes vectors and codebooks; writes vectors.f32 [M][D], of which N rows are copies in turn, and
                      codebooks.f32 [S][K][D]; answers {"peers": [name]}
  {"op": "run", "peer": name, "stages": S, "codes": file or null}
                      answers {"ms": t, "rows": n, "note": text}, and writes int32 codes[M at most][S]
  {"op": "kmeans", "rows": N}
                      answers {"ms": t} of one Lloyd iteration: matmul, argmax, sums by index_add_
  {"op": "ema", "form": form, "stages": S}
                      answers {"ms": t} of one step of moving averages (EnCodec's form): codes by cdist or a matmul, sums by
                      index_add_, residuals; form "matmul, vectors from the host" copies them from pinned memory each time
  {"op": "copies"}    answers {"device", "toDevice", "toHost"} in GB/s; "device" counts bytes read and written
  {"op": "product"}   answers {"tflops": x} of a float16 matrix product
"""

import gc
import json
import os
import statistics
import subprocess
import sys

import torch

import peers

# Whatever libraries print must not end up between the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

# The protocol can be tried without a card.
device = torch.device(os.environ.get("RVQ_BENCH_DEVICE", "cuda"))
sample_rows = 16384
lloyd_steps = 4
# Times of less than this are taken several times a turn.
short_ms = 60
held = {}


def milliseconds(call):
    """Of one call, by events of the stream."""
    if device.type != "cuda":
        import time

        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def card(request):
    versions = f"PyTorch {torch.__version__}"
    if device.type != "cuda":
        return {"name": "no card", "versions": versions}
    import triton

    properties = torch.cuda.get_device_properties(device)
    fields = "clocks.max.sm,clocks.sm,clocks.max.memory,power.limit,driver_version"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", "--id=0"]
    values = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip().split(", ")
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memoryBytes": properties.total_memory,
        **({"maxClockMhz": float(values[0])} if values[0].isdigit() else {}),
        "settings": dict(zip(fields.split(","), values)),
        "versions": f"{versions}, Triton {triton.__version__}, CUDA {torch.version.cuda}, driver {values[-1]}",
    }


def open_data(request):
    held.clear()
    # Some peers refer to themselves.
    gc.collect()
    torch.set_float32_matmul_precision("highest")
    if device.type == "cuda":
        torch.cuda.empty_cache()
    dim, size, stages, distinct = request["dim"], request["size"], request["stages"], request["distinct"]
    generator = torch.Generator(device=device).manual_seed(request["seed"])
    draw = mixture(dim, generator)
    vectors = draw(distinct)
    codebooks = learn(draw, size, stages, generator)
    save(vectors, os.path.join(request["folder"], "vectors.f32"))
    save(codebooks, os.path.join(request["folder"], "codebooks.f32"))
    copies = -(-request["rows"] // distinct)
    held["data"] = peers.Data(vectors.repeat(copies, 1)[: request["rows"]].contiguous(), codebooks)
    held["peers"] = peers.all_peers(milliseconds, request["forms"], request["compile"])
    held["estimates"] = {}
    return {"peers": list(held["peers"])}


def mixture(dim, generator):
    """A function that draws rows of a Gaussian mixture: 64 centres, and noise that falls off with the dimension."""
    normal = lambda rows: torch.randn((rows, dim), generator=generator, device=device)
    centres = normal(64)
    scale = torch.arange(1, dim + 1, device=device).float() ** -0.3

    def draw(rows):
        chosen = torch.randint(0, len(centres), (rows,), generator=generator, device=device)
        return centres[chosen] + normal(rows) * scale

    return draw


def learn(draw, size, stages, generator):
    """codebooks[stages][size][dim]: a few steps of Lloyd on the residuals of other rows; large ones are a sample of them."""
    residuals = draw(max(65536, 2 * size))
    codebooks = []
    for stage in range(stages):
        order = torch.randperm(len(residuals), generator=generator, device=device)
        codewords = residuals[order[:size]].clone()
        for _ in range(lloyd_steps if size <= 4096 else 0):
            codes = nearest(residuals, codewords)
            counts = torch.bincount(codes, minlength=size)
            sums = torch.zeros_like(codewords).index_add_(0, codes, residuals)
            codewords = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), codewords)
        codebooks.append(codewords)
        if stage + 1 < stages:
            residuals = residuals - codewords[nearest(residuals, codewords)]
    return torch.stack(codebooks)


def nearest(vectors, codewords):
    half_norms = (codewords * codewords).sum(1) / 2
    parts = [(rows @ codewords.T - half_norms).argmax(1) for rows in vectors.split(16384)]
    return torch.cat(parts)


def save(matrix, file):
    matrix.cpu().numpy().tofile(file)


def run(request):
    """The median of some calls after one that does not count; one call where it takes long."""
    name, stages = request["peer"], request["stages"]
    torch.set_float32_matmul_precision("high" if name == "compiled TF32" else "highest")
    peer, data = held["peers"][name], held["data"]
    key = (name, stages)
    result = {}

    def call():
        result["codes"] = peer(data, stages)

    if key not in held["estimates"]:
        # Compiles and tunes.
        call()
        held["estimates"][key] = milliseconds(call)
    estimate = held["estimates"][key]
    call()
    times = [milliseconds(call) for _ in range(max(1, min(5, int(short_ms / max(estimate, 0.01)))))]
    codes = result["codes"]
    if request["codes"] is not None and codes is not None:
        save(codes[:sample_rows].int(), request["codes"])
        if device.type == "cuda":
            # The other process needs memory, too.
            torch.cuda.empty_cache()
    rows = len(data.vectors) if codes is None else len(codes)
    return {"ms": statistics.median(times), "rows": rows, "note": getattr(peer, "note", "")}


def kmeans(request):
    torch.set_float32_matmul_precision("highest")
    data = held["data"]
    vectors, codewords = data.vectors[: request["rows"]], data.codebooks[0]

    def iterate():
        codes = (vectors @ codewords.T - data.half_norms[0]).argmax(1)
        counts = torch.bincount(codes, minlength=len(codewords))
        sums = torch.zeros_like(codewords).index_add_(0, codes, vectors)
        return torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), codewords)

    iterate()
    return {"ms": statistics.median(milliseconds(iterate) for _ in range(5))}


def ema(request):
    torch.set_float32_matmul_precision("highest")
    data, form = held["data"], request["form"]
    decay, epsilon = 0.99, 1e-5
    host = None
    if form == "matmul, vectors from the host":
        host = data.vectors.cpu()
        if device.type == "cuda":
            host = host.pin_memory()
    states = [
        {"codewords": codewords.clone(), "usage": torch.ones(len(codewords), device=device), "averages": codewords.clone()}
        for codewords in data.codebooks[: request["stages"]]
    ]

    def step():
        residuals = data.vectors if host is None else host.to(device, non_blocking=True)
        for state in states:
            codewords, usage, averages = state["codewords"], state["usage"], state["averages"]
            if form == "cdist":
                codes = torch.cat([torch.cdist(rows, codewords).argmin(1) for rows in residuals.split(65536)])
            else:
                half_norms = (codewords * codewords).sum(1) / 2
                codes = torch.cat([(rows @ codewords.T - half_norms).argmax(1) for rows in residuals.split(65536)])
            following = residuals - codewords[codes]
            # What rvq reports too.
            state["error"] = (following * following).mean()
            counts = torch.bincount(codes, minlength=len(codewords)).float()
            sums = torch.zeros_like(codewords).index_add_(0, codes, residuals)
            usage.mul_(decay).add_(counts, alpha=1 - decay)
            averages.mul_(decay).add_(sums, alpha=1 - decay)
            total = usage.sum()
            smoothed = (usage + epsilon) / (total + len(codewords) * epsilon) * total
            codewords.copy_(averages / smoothed[:, None])
            residuals = following

    step()
    return {"ms": statistics.median(milliseconds(step) for _ in range(5))}


def copies(request):
    count = 2**28 if device.type == "cuda" else 2**20
    source = torch.rand(count, device=device)
    target = torch.empty_like(source)
    host = torch.empty(count, pin_memory=device.type == "cuda")
    rate = lambda call, times: round(times * 4 * count / 1e6 / min(milliseconds(call) for _ in range(4)), 1)
    return {
        "device": rate(lambda: target.copy_(source), 2),
        "toDevice": rate(lambda: target.copy_(host, non_blocking=True), 1),
        "toHost": rate(lambda: host.copy_(source, non_blocking=True), 1),
    }


def product(request):
    edge = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn((edge, edge), device=device).half() for _ in range(2))
    if device.type != "cuda":
        left, right = left.float(), right.float()
    call = lambda: left @ right
    call()
    return {"tflops": round(2 * edge**3 / 1e9 / statistics.median(milliseconds(call) for _ in range(9)), 1)}


operations = {"card": card, "open": open_data, "run": run, "kmeans": kmeans, "ema": ema, "copies": copies, "product": product}
for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = operations[request["op"]](request)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:400]}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
