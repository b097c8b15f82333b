"""Speed of the default extractor on cubes in memory, and the share of time by kind of operation.

Run: ``python -m benchmarks.scoring.extractor``. Cubes of 224 x 224 x 16, float32, round field with a central stop, in
batches of 8 on two threads; median of warmed runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.helpers.machine import measure, record, set_threads
from hseval.extractors.scattering import Scattering

SIZE, BANDS, BATCH, THREADS, BAR = 224, 16, 8, 2, 10.0
KINDS = {  # of torch's operators, for the shares of time
    "Fourier transforms": ("_fft",),
    "products with filters": ("mul",),
    "moduli": ("addcmul", "sqrt", "abs"),
    "pooling and correlations": ("bmm", "mm", "sum", "pow", "sub"),
    "fill outside the field": ("avg_pool2d", "upsample", "pad"),
}


def make_cubes() -> tuple[Any, Any]:
    """Return a batch of noise cubes (8, 16, 224, 224), NaN outside the field, and the fields (8, 224, 224)."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    field = (np.hypot(y, x) <= SIZE / 2) & (np.hypot(y, x) > 6)
    noise = np.random.default_rng(0).normal(0.3, 0.05, (BATCH, BANDS, SIZE, SIZE)).astype(np.float32)
    return np.where(field, noise, np.float32(np.nan)), np.repeat(field[None], BATCH, axis=0)


def profile_shares(run: Any) -> dict[str, float]:
    """Return the share of operator time by kind, from torch's profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        run()
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(times.values())
    totals = dict.fromkeys(KINDS, 0.0)
    for name, microseconds in times.items():
        kind = next((kind for kind, starts in KINDS.items() if name.startswith(starts)), None)
        if kind:
            totals[kind] += microseconds / total
    return {**totals, "copies, elementwise rest": 1 - sum(totals.values())}


def main() -> None:
    """Measure, print and record."""
    set_threads(THREADS)
    data, field = make_cubes()
    extractor, wavelengths = Scattering(), np.linspace(450, 905, BANDS)

    def run() -> Any:
        return extractor(data, wavelengths=wavelengths, masks={"fov": field})

    rate = BATCH / measure({"scattering": run}, repeats=9)["scattering"]
    shares = profile_shares(run)
    print(f"scattering, {SIZE} x {SIZE} x {BANDS}: {rate:.1f} cubes/s, {run().shape[1]} features")
    for kind, share in shares.items():
        print(f"  {share:5.0%}  {kind}")
    print(f"  target: {BAR:g} cubes/s: {'met' if rate >= BAR else 'MISSED'}")
    record(
        "scoring/extractor",
        {
            "problem": f"scattering of {BATCH} cubes {SIZE} x {SIZE} x {BANDS}, float32, {THREADS} threads",
            "cubes_per_second": rate,
            "bar": BAR,
            "features": run().shape[1],
            "shares_of_operator_time": shares,
        },
    )


if __name__ == "__main__":
    main()
