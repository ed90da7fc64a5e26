"""One run over several processes, the ranks: each takes its share of every batch, the gradients are averaged.

    python -m paddle.distributed.launch --nproc_per_node 2 finetune.py --batch_size 48 ...

Several machines, `--nnodes 2 --master HOST:PORT` on each: docs/scale.md.

`--batch_size` stays the size of the whole batch. Gradients and batch normalisation's running statistics are averaged at
every step, so all ranks hold the same bits at all times; only rank 0 writes the files of the run. The output, data and
cache folders are shared by the processes of a machine. The backend is gloo on CPUs and NCCL on GPUs (NCCL is untested).

The launcher shows the output of rank 0 and writes that of rank N to log/workerlog.N (`--log_dir` before the script).
When one rank fails, the launcher ends the others and shows the end of that log; its exit code says only that
something failed. It passes a signal on to the ranks, and kills those that are still running 30 seconds later.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import paddle
from paddle import distributed
from paddle.base import core

from utils import heartbeat
from utils.errors import DeviceError, UsageError

# how gloo and the TCP store report that the other end of a connection is gone
_PEER_GONE = re.compile(
    r"timeout self_rank|timed out|connection (reset|closed|refused|aborted)|broken pipe|tcp (send|recv|receive) error",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of the run. With one process every exchange is a no-op.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the process that writes."""
        return self.rank == 0

    def shard(self, size: int, accum: int = 1) -> slice:
        """Return the rows of a batch of `size` for this rank, which processes them in `accum` micro-batches.

        Raises:
            UsageError: the batch is not divisible by the number of ranks and micro-batches.
        """
        if size % self.count:
            raise UsageError(f"--batch_size {size}: accepted with {self.count} processes are multiples of {self.count}")
        local = size // self.count
        if local % accum:
            each = f", of which each of {self.count} processes takes {local}," if self.count > 1 else ""
            raise UsageError(f"--accum {accum}: accepted with --batch_size {size}{each} are divisors of {local}")
        return slice(self.rank * local, (self.rank + 1) * local)

    @paddle.no_grad()
    def all_reduce_sum(self, value: paddle.Tensor) -> paddle.Tensor:
        """Return the sum of `value` over the ranks, bit-identical on each, without gradient."""
        value = value.detach().clone()
        if self.count > 1:
            with _collective():
                distributed.all_reduce(value)
        return value

    @paddle.no_grad()
    def average(self, tensors: list[paddle.Tensor]) -> None:
        """Replace float32 `tensors` in place by their means over the ranks, in one message."""
        if self.count == 1 or not tensors:
            return
        means = paddle.concat([tensor.flatten() for tensor in tensors])
        with _collective():
            distributed.all_reduce(means)
        means.scale_(1 / self.count)  # in place, for this is as large as all gradients of the network
        for tensor, mean in zip(tensors, paddle.split(means, [tensor.size for tensor in tensors])):
            paddle.assign(mean.reshape(tensor.shape), tensor)

    @paddle.no_grad()
    def gather(self, rows: paddle.Tensor) -> paddle.Tensor:
        """Return the `rows` [N, ...] of all ranks in order of rank, [count * N, ...], without gradient."""
        if self.count == 1:
            return rows.detach()
        gathered: list[paddle.Tensor] = []
        with _collective():
            distributed.all_gather(gathered, rows.detach())
        return paddle.concat(gathered)

    def barrier(self) -> None:
        """Wait without time limit until every rank has called this.

        Among several machines, until one has given no sign of life for a minute: see `utils.heartbeat`.

        gloo gives up after 30 seconds, so call this before an exchange that some ranks may reach much later.
        """
        if self.count == 1:
            return
        with _collective():
            store = core.create_or_get_global_tcp_store()
            arrived = store.add("arrived", 1)  # counts all calls; no rank calls again before all have called once
            awaited = -(-arrived // self.count) * self.count
            signs = heartbeat.Heartbeat(self.count, store.add) if _machines() > 1 else None
            while store.add("arrived", 0) < awaited:
                time.sleep(0.005)
                if signs is not None:
                    signs.check()
            distributed.barrier()  # rank 0 serves the store and must not exit before the others have read it

    @contextlib.contextmanager
    def rank0_first(self) -> Iterator[None]:
        """Run the block on rank 0, then on the others, which reuse the files it wrote; all leave together.

        With several machines, whose disks may be their own, the first rank of each comes before the rest.
        """
        turn, turns = self._turn()
        for _ in range(turn):
            self.barrier()
        yield
        for _ in range(turns - turn):
            self.barrier()

    def _turn(self) -> tuple[int, int]:
        """Return when it is the turn of this rank, from 0, and how many turns there are."""
        machines = _machines()
        if self.first or machines == 1:
            return int(not self.first), 3 if machines > 1 else 2
        return 1 if os.environ.get("PADDLE_LOCAL_RANK") == "0" else 2, 3

    @paddle.no_grad()
    def agree(self, value: object) -> bool:
        """Return whether `value` is the same on all ranks, by a digest of its text."""
        if self.count == 1:
            return True
        self.barrier()
        number = int(hashlib.sha256(repr(value).encode()).hexdigest()[:15], 16)
        extremes = paddle.to_tensor([number, -number], dtype="int64")
        with _collective():
            distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        return extremes.tolist() == [number, -number]

    def any_signal(self, number: int, look: bool) -> int:
        """Return the largest `number` of all ranks; on GPUs, where that waits for the device, 0 unless `look`."""
        if self.count == 1:
            return number
        if not look and paddle.get_device() != "cpu":
            return 0
        largest = paddle.to_tensor([number])
        with _collective():
            distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return largest.item()


SINGLE_PROCESS = Ranks()


def join() -> Ranks:
    """Return the place of this process among those of `paddle.distributed.launch`; `SINGLE_PROCESS` without it.

    Select the device first.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        return SINGLE_PROCESS
    distributed.init_parallel_env()
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size())
    if _machines() > 1:
        heartbeat.start(ranks.rank, ranks.count)
    return ranks


def _machines() -> int:
    """Return the number of machines, or launchers, of the run."""
    return int(os.environ.get("PADDLE_NNODES", "1"))


@contextlib.contextmanager
def _collective() -> Iterator[None]:
    """Turn an error of the block into a DeviceError if it says that another rank is gone."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:  # ValueError: the store's
        if not _PEER_GONE.search(str(error)):
            raise
        raise DeviceError(
            f"another process of this run is gone; its output is in its log/workerlog.N ({str(error).strip()})"
        ) from None
