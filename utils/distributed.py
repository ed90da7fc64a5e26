"""One run over several processes, the ranks: each takes its share of every batch, the results are averaged.

    python -m paddle.distributed.launch --nproc_per_node 2 finetune.py --batch_size 48 ...

`--batch_size` stays the size of the whole batch. Gradients and batch normalisation's running statistics are averaged at
every step, so all ranks hold the same bits at all times; rank 0 alone writes the files of the run. The output, data and
cache folders are shared. Processes talk by gloo on CPUs, by NCCL on GPUs (the latter was never run).

The launcher shows what rank 0 prints and keeps what rank N prints in log/workerlog.N (`--log_dir` before the script).
When one rank fails the launcher ends the others and shows the end of that log; its own exit code says only that
something failed. A signal to the launcher is passed on; what is not over 30 seconds later is killed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import paddle
from paddle import distributed
from paddle.base import core

from utils.errors import DeviceError, UsageError


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run. With one process everything here does nothing.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def shard(self, size: int, accum: int = 1) -> slice:
        """Return the rows of a batch of `size` that belong to this rank, which takes them in `accum` parts.

        Raises:
            UsageError: the batch cannot be divided evenly.
        """
        if size % self.count:
            raise UsageError(f"--batch_size {size}: accepted with {self.count} processes are multiples of {self.count}")
        own = size // self.count
        if own % accum:
            each = f", of which each of {self.count} processes takes {own}," if self.count > 1 else ""
            raise UsageError(f"--accum {accum}: accepted with --batch_size {size}{each} are divisors of {own}")
        return slice(self.rank * own, (self.rank + 1) * own)

    @paddle.no_grad()
    def all_reduce_sum(self, value: paddle.Tensor) -> paddle.Tensor:
        """Return the sum of `value` over the ranks, the same bits on each, without gradient."""
        value = value.detach().clone()
        if self.count > 1:
            with _together():
                distributed.all_reduce(value)
        return value

    @paddle.no_grad()
    def average(self, tensors: list[paddle.Tensor]) -> None:
        """Replace float32 `tensors` in place by their means over the ranks, all of them in one message."""
        if self.count == 1 or not tensors:
            return
        means = paddle.concat([tensor.flatten() for tensor in tensors])
        with _together():
            distributed.all_reduce(means)
        means.scale_(1 / self.count)  # in place, as the sum: these are all the gradients of the network
        for tensor, mean in zip(tensors, paddle.split(means, [tensor.size for tensor in tensors])):
            paddle.assign(mean.reshape(tensor.shape), tensor)

    @paddle.no_grad()
    def gather(self, rows: paddle.Tensor) -> paddle.Tensor:
        """Return the `rows` [N, ...] of all ranks in their order, [count * N, ...], without gradient."""
        if self.count == 1:
            return rows.detach()
        gathered: list[paddle.Tensor] = []
        with _together():
            distributed.all_gather(gathered, rows.detach())
        return paddle.concat(gathered)

    def barrier(self) -> None:
        """Wait, however long, until every rank is here.

        gloo's own waiting ends with an error after 30 seconds, so this comes before an exchange whenever one rank may
        have had more to do than another.
        """
        if self.count == 1:
            return
        with _together():
            store = core.create_or_get_global_tcp_store()
            arrived = store.add("arrived", 1)  # ever; nobody arrives a second time before all have once
            awaited = -(-arrived // self.count) * self.count
            while store.add("arrived", 0) < awaited:
                time.sleep(0.005)
            distributed.barrier()  # rank 0, who keeps the store, may not end before the others have looked

    @contextlib.contextmanager
    def rank0_first(self) -> Iterator[None]:
        """Run the block on rank 0, then on the others, who find the files it made; all leave together."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()
        self.barrier()

    def any_signal(self, number: int, look: bool) -> int:
        """Return the largest `number` of all ranks; on GPUs, which it waits for, 0 unless it is time to `look`."""
        if self.count == 1:
            return number
        if not look and paddle.get_device() != "cpu":
            return 0
        with _together():
            largest = paddle.to_tensor([number])
            distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return largest.item()


SINGLE_PROCESS = Ranks()


def join() -> Ranks:
    """Return this process's place among those `paddle.distributed.launch` started; `SINGLE_PROCESS` without it.

    The device must be selected before.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) == 1:
        return SINGLE_PROCESS
    distributed.init_parallel_env()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise DeviceError(
            f"another process of this run is gone; what it said is in its log/workerlog.N ({str(error).strip()})"
        ) from None
