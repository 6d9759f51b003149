"""FAISS and NumPy at the service of bench/faiss.bench.mts: one JSON request a line on stdin, one JSON answer a line on stdout.

Matrices come and go as files of little-endian numbers, row-major. Threads are those of OPENBLAS_NUM_THREADS.
  {"op": "open", "vectors": file, "codebooks": [file], "dim": D}  loads float32 matrices and answers {"versions": text}
  {"op": "run", "method": name, "rows": N, "codes": file or null}  answers {"seconds": s}, and writes int32 codes[N][stages]
  {"op": "kmeans", "rows": N, "iterations": n}                     answers {"seconds": s} for one iteration
"""

import json
import os
import sys
import threading
import time

import faiss
import numpy as np

threads = int(os.environ["OPENBLAS_NUM_THREADS"])
faiss.omp_set_num_threads(threads)
score_bytes = 16 * 2**20  # of a score matrix, as FAISS's own blocks of 4096 queries by 1024 codewords


def open_data(request):
    data.clear()
    dim = request["dim"]
    data["vectors"] = np.fromfile(request["vectors"], np.float32).reshape(-1, dim)
    data["codebooks"] = [np.fromfile(file, np.float32).reshape(-1, dim) for file in request["codebooks"]]
    return {"versions": f"FAISS {faiss.__version__}, NumPy {np.__version__}"}


def flat_search(vectors):
    """IndexFlatL2, k = 1: the threads are those of FAISS and of OpenBLAS."""
    index = data.setdefault("index", flat_index())
    return index.search(vectors, 1)[1][:, 0]


def flat_search_by_rows(vectors):
    """IndexFlatL2, k = 1, with each thread searching a part of the rows: FAISS leaves the lock of the interpreter."""
    codes = np.empty(len(vectors), np.int64)
    index = data.setdefault("index", flat_index())

    def part(rows):
        # OpenMP's setting belongs to the calling thread.
        faiss.omp_set_num_threads(1)
        codes[rows] = index.search(vectors[rows], 1)[1][:, 0]

    bounds = np.linspace(0, len(vectors), threads + 1).astype(int)
    parts = [threading.Thread(target=part, args=(slice(a, b),)) for a, b in zip(bounds, bounds[1:])]
    for thread in parts:
        thread.start()
    for thread in parts:
        thread.join()
    return codes


def matmul_argmax(vectors):
    """x·c − ½‖c‖² by a matrix product, in chunks, then argmax."""
    codebook = data["codebooks"][0]
    half_norms = (codebook * codebook).sum(1) / 2
    chunk = max(1, score_bytes // 4 // len(codebook))
    parts = []
    for first in range(0, len(vectors), chunk):
        scores = vectors[first : first + chunk] @ codebook.T
        scores -= half_norms
        parts.append(scores.argmax(1))
    return np.concatenate(parts)


def residual_encode(vectors):
    """ResidualQuantizer with a beam of one: greedy, as ours."""
    rq = data.setdefault("residual", residual_quantizer())
    return rq.compute_codes(vectors)


def residual_codes(packed):
    """codes[N][stages] from the bits of each row, the lowest first."""
    stages = len(data["codebooks"])
    bits = int(np.log2(len(data["codebooks"][0])))
    unpacked = np.unpackbits(packed, axis=1, bitorder="little")[:, : stages * bits].reshape(-1, stages, bits)
    return (unpacked.astype(np.int32) << np.arange(bits)).sum(2)


def flat_index():
    index = faiss.IndexFlatL2(data["vectors"].shape[1])
    index.add(data["codebooks"][0])
    return index


def residual_quantizer():
    stages, dim = len(data["codebooks"]), data["vectors"].shape[1]
    rq = faiss.ResidualQuantizer(dim, stages, int(np.log2(len(data["codebooks"][0]))))
    faiss.copy_array_to_vector(np.concatenate(data["codebooks"]).ravel(), rq.codebooks)
    rq.max_beam_size = 1
    rq.is_trained = True
    return rq


methods = {
    "flat": flat_search,
    "flat by rows": flat_search_by_rows,
    "matmul": matmul_argmax,
    "residual": residual_encode,
}


def run(request):
    vectors = data["vectors"][: request["rows"]]
    start = time.perf_counter()
    codes = methods[request["method"]](vectors)
    seconds = time.perf_counter() - start
    if request["codes"] is not None:
        codes = residual_codes(codes) if request["method"] == "residual" else codes
        codes.astype(np.int32).tofile(request["codes"])
    return {"seconds": seconds}


def kmeans(request):
    """Seconds of one Lloyd iteration: the clock of FAISS at its last one and at its first."""
    vectors, codebook = data["vectors"][: request["rows"]], data["codebooks"][0]
    dim, size = vectors.shape[1], len(codebook)
    settings = {"niter": request["iterations"], "max_points_per_centroid": len(vectors)}
    clustering = faiss.Kmeans(dim, size, **settings)
    clustering.train(vectors, init_centroids=codebook)
    times = [step["time"] for step in clustering.iteration_stats]
    return {"seconds": (times[-1] - times[0]) / (len(times) - 1)}


data = {}
operations = {"open": open_data, "run": run, "kmeans": kmeans}
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(operations[request["op"]](request)), flush=True)
