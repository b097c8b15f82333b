"""A GPU as it is found, what it can do at most, and how much of that a network needs."""

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

from benchmarks.ldm.stages import settle
from hseval_ldm.models.autoencoder import Decoder
from hseval_ldm.models.unet import Denoiser
from hseval_ldm.training.meters import GIB, get_peak_memory_gib

QUERY = (
    "name", "driver_version", "pstate", "power.draw", "power.limit", "clocks.sm", "clocks.mem", "clocks.max.sm",
    "clocks.max.mem", "temperature.gpu", "utilization.gpu", "memory.total", "memory.used",
)  # fmt: skip


def name_of(device: torch.device) -> str:
    """Return what results of a device are filed under."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def found(device: torch.device) -> dict[str, Any]:
    """Return versions, and what nvidia-smi says of power, clocks and temperature at this moment."""
    import diffusers

    state: dict[str, Any] = {
        "device": name_of(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "diffusers": diffusers.__version__,
    }
    if device.type != "cuda":
        return state
    about = torch.cuda.get_device_properties(device)
    state |= {
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "capability": f"{about.major}.{about.minor}",
        "memory_gib": about.total_memory / GIB,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
    }
    return state | {"nvidia_smi": _told_by_nvidia_smi(device)}


def _told_by_nvidia_smi(device: torch.device) -> Mapping[str, str] | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader", f"--id={device.index or 0}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(QUERY, (part.strip() for part in answer.splitlines()[0].split(",")), strict=False))


def rate(
    run: Callable[[int], object], device: torch.device, *, warm: int = 3, each: int = 5, blocks: int = 5
) -> tuple[float, list[float]]:
    """Return calls a second, the median over blocks of ``each``, and the seconds of each block.

    ``run`` gets the number of the call.
    """
    for number in range(warm):
        run(number)
    seconds = []
    for block in range(blocks):
        settle(device)
        start = time.perf_counter()
        for number in range(each):
            run(warm + block * each + number)
        settle(device)
        seconds.append(time.perf_counter() - start)
    return each / statistics.median(seconds), seconds


def matrix_rate(device: torch.device, *, small: bool = False) -> float:
    """Return FLOP/s of a large bf16 matrix product: what the networks' rates are held against."""
    side = 256 if small else 8192
    left, right = (torch.ones(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    # Ones cost less power than noise, and a GPU at its power limit would look faster than it is.
    for matrix in (left, right):
        matrix.normal_(generator=torch.Generator(device).manual_seed(0))
    per_second, _ = rate(lambda _: left @ right, device, warm=5, each=20)
    return 2 * side**3 * per_second


def denoiser_flops(build: Callable[[], Denoiser], shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return FLOPs of one cube's U-Net evaluation, and of its forward and backward; nothing is computed."""
    with torch.device("meta"):
        network = build()
    latents = torch.empty((1, *shape), device="meta")
    times = torch.zeros(1, dtype=torch.int64, device="meta")
    forward = counted(lambda: network(latents, times))
    return forward, counted(lambda: network(latents, times).sum().backward())


def decoder_flops(decoder: Decoder, shape: tuple[int, int, int]) -> int:
    """Return FLOPs of decoding one cube's latents, with a copy that computes nothing."""
    import copy

    latents = torch.empty((1, *shape), device="meta")
    network = copy.deepcopy(decoder).to("meta")
    return counted(lambda: network(latents))


def counted(run: Callable[[], object]) -> int:
    """Return the FLOPs of matrix products, convolutions and attention inside a call (a multiply-add is two)."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def forget(device: torch.device) -> None:
    """Free what is not held any more, and start the memory's peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def memory(device: torch.device) -> dict[str, float]:
    """Return the most memory since :func:`forget`, in GiB: of tensors, and what torch took from the GPU for them.

    On a CPU the process's resident set, since it began.
    """
    if device.type != "cuda":
        return {"process_gib": get_peak_memory_gib(device)}
    reserved = torch.cuda.max_memory_reserved(device) / GIB
    return {"tensors_gib": get_peak_memory_gib(device), "reserved_gib": reserved}
