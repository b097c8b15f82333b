"""The state of a GPU, its peak rate and memory, and the FLOPs of the networks."""

from __future__ import annotations

import gc
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ldm.stages import synchronize
from hseval.training.meters import GIB, get_peak_memory_gib
from hseval_ldm.models.autoencoder import Decoder
from hseval_ldm.models.unet import Denoiser

QUERY = (
    "name", "driver_version", "pstate", "power.draw", "power.limit", "clocks.sm", "clocks.mem", "clocks.max.sm",
    "clocks.max.mem", "temperature.gpu", "utilization.gpu", "memory.total", "memory.used",
)  # fmt: skip


def get_device_name(device: torch.device) -> str:
    """Return the name under which results of a device are stored."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def read_device_state(device: torch.device) -> dict[str, Any]:
    """Return versions, and nvidia-smi's current values of power, clocks and temperature."""
    import diffusers

    state: dict[str, Any] = {
        "device": get_device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "diffusers": diffusers.__version__,
    }
    if device.type != "cuda":
        return state
    properties = torch.cuda.get_device_properties(device)
    state |= {
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": properties.total_memory / GIB,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
    }
    return state | {"nvidia_smi": _query_nvidia_smi(device)}


def _query_nvidia_smi(device: torch.device) -> Mapping[str, str] | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader", f"--id={device.index or 0}"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(QUERY, (value.strip() for value in output.splitlines()[0].split(",")), strict=False))


def measure_rate(
    run: Callable[[int], object], device: torch.device, *, warm: int = 3, calls: int = 5, blocks: int = 5
) -> tuple[float, list[float]]:
    """Return calls a second, the median over blocks of ``calls`` calls, and the seconds of each block.

    ``run`` gets the number of the call.
    """
    for number in range(warm):
        run(number)
    seconds = []
    for block in range(blocks):
        synchronize(device)
        start = time.perf_counter()
        for number in range(calls):
            run(warm + block * calls + number)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return calls / statistics.median(seconds), seconds


def measure_matrix_rate(device: torch.device, *, small: bool = False) -> float:
    """Return FLOP/s of a large bf16 matrix product, the reference for the networks' rates."""
    side = 256 if small else 8192
    left, right = (torch.ones(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    # Noise, since ones cost less power, and a GPU at its power limit would seem faster than it is.
    for matrix in (left, right):
        matrix.normal_(generator=torch.Generator(device).manual_seed(0))
    per_second, _ = measure_rate(lambda _: left @ right, device, warm=5, calls=20)
    return 2 * side**3 * per_second


def count_denoiser_flops(build: Callable[[], Denoiser], shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return FLOPs of one cube's U-Net evaluation, and of forward plus backward; nothing is computed."""
    with torch.device("meta"):
        network = build()
    latents = torch.empty((1, *shape), device="meta")
    times = torch.zeros(1, dtype=torch.int64, device="meta")
    forward = count_flops(lambda: network(latents, times))
    return forward, count_flops(lambda: network(latents, times).sum().backward())


def count_decoder_flops(decoder: Decoder, shape: tuple[int, int, int]) -> int:
    """Return FLOPs of decoding one cube's latents, with a copy on the meta device."""
    import copy

    latents = torch.empty((1, *shape), device="meta")
    network = copy.deepcopy(decoder).to("meta")
    return count_flops(lambda: network(latents))


def count_flops(run: Callable[[], object]) -> int:
    """Return the FLOPs of matrix products, convolutions and attention inside a call (a multiply-add is two)."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def free_memory(device: torch.device) -> None:
    """Free unreferenced memory and reset the peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def get_peak_memory(device: torch.device) -> dict[str, float]:
    """Return the peak memory since :func:`free_memory`, in GiB: of tensors, and reserved by torch on the GPU.

    On a CPU the peak resident set of the process since its start.
    """
    if device.type != "cuda":
        return {"process_gib": get_peak_memory_gib(device)}
    reserved = torch.cuda.max_memory_reserved(device) / GIB
    return {"tensors_gib": get_peak_memory_gib(device), "reserved_gib": reserved}
