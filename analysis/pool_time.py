"""What the pool behind a run's training cost: read from the pool's attributes, without its samples."""

from dataclasses import dataclass
from pathlib import Path

from .config import lookup
from .io import PoolHead, read_pool_head
from .runs import Run, places

UNITS = (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, float("inf")))  # name, seconds, used up to


@dataclass(frozen=True)
class PoolTime:
    """`seconds` of the `used` samples a prompt: those of the whole pool times used / M."""

    pool: PoolHead
    used: int
    seconds: float


def pool_time(run: Run, cache: dict[Path, PoolHead]) -> PoolTime | None:
    """Of the run's pool.path; None where it is not there, is another pool, or does not say how long it took."""
    said, wanted = lookup(run.config, "pool.path"), run.provenance.sha256.get("pool")
    for path in places(run, said) if said else []:
        if not path.is_file():
            continue
        resolved = path.resolve()
        head = cache[resolved] if resolved in cache else read_pool_head(path)
        cache[resolved] = head
        if (wanted and head.sha256 and head.sha256 != wanted) or head.seconds <= 0:
            continue
        used = samples_used(run, head.num_samples)
        return PoolTime(head, used, head.seconds * used / head.num_samples)
    return None


def samples_used(run: Run, m: int) -> int:
    """pool.use, where 0 means all m."""
    return min(int(lookup(run.config, "pool.use", 0) or m), m)


def unit(seconds: float) -> tuple[str, float]:
    """The unit that a time reads best in, and its seconds."""
    return next((name, size) for name, size, up_to in UNITS if seconds <= up_to)
