"""Which errors of an exchange mean that another process is gone; tests/test_ranks.py has the exchanges themselves."""

from __future__ import annotations

import paddle
import pytest
from paddle import distributed

from utils.distributed import Ranks, _collective
from utils.errors import DeviceError

GONE = [
    RuntimeError("[/paddle/gloo/transport/tcp/pair.cc:584] TIMEOUT self_rank = 1 pair_rank = 0 peer_str = [::1]:28573"),
    RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:6061"),
    RuntimeError("[gloo/transport/tcp/pair.cc:534] Read error [127.0.0.1]:6061: Connection reset by peer"),
    RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 30000ms for recv operation to complete"),
    ValueError("(InvalidArgument) TCP send error. Details: Broken pipe.\n  [Hint: Expected byte_sent > 0]"),
    ValueError("(InvalidArgument) TCP receive error. Details: Success."),
    ConnectionResetError(104, "Connection reset by peer"),
]
OURS = [
    RuntimeError("(PreconditionNotMet) Tensor holds no memory."),
    RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:446] op.preamble.nbytes <= op.nbytes. 64 vs 32"),
    ValueError("(InvalidArgument) The dims of the tensors differ."),
    KeyError("arrived"),
]


@pytest.mark.parametrize("error", GONE, ids=lambda error: str(error)[:60])
def test_a_lost_connection_is_a_failure_of_one_line(error):
    with pytest.raises(DeviceError, match="another process of this run is gone"), _collective():
        raise error


@pytest.mark.parametrize("error", OURS, ids=lambda error: str(error)[:60])
def test_any_other_error_stays_what_it_is(error):
    with pytest.raises(type(error)) as raised, _collective():
        raise error
    assert raised.value is error


def test_a_fault_before_the_exchange_is_not_taken_for_a_lost_connection(monkeypatch):
    monkeypatch.setattr(distributed, "all_reduce", lambda *_: pytest.fail("never reached"))
    with pytest.raises((TypeError, ValueError)):
        Ranks(0, 2).any_signal("no number", look=True)


@pytest.mark.parametrize(("rank", "local", "turn"), [(0, 0, (0, 3)), (1, 1, (2, 3)), (2, 0, (1, 3)), (3, 1, (2, 3))])
def test_of_several_machines_the_first_rank_of_each_comes_before_the_rest(rank, local, turn, monkeypatch):
    monkeypatch.setenv("PADDLE_NNODES", "2")
    monkeypatch.setenv("PADDLE_LOCAL_RANK", str(local))
    assert Ranks(rank, 4)._turn() == turn
    monkeypatch.setenv("PADDLE_NNODES", "1")
    assert Ranks(rank, 4)._turn() == (min(rank, 1), 2)


@pytest.mark.parametrize("others", ["the same", "another"])
def test_ranks_agree_when_all_have_the_same(others, monkeypatch):
    def largest(tensor, how):
        assert how == distributed.ReduceOp.MAX
        other = paddle.to_tensor(sent[others])
        paddle.assign(paddle.maximum(tensor, other), tensor)

    sent, seen = {}, []
    monkeypatch.setattr(Ranks, "barrier", lambda self: None)
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor, _: seen.append(tensor.tolist()))
    for text in ("the same", "another"):
        Ranks(1, 2).agree(text)
        sent[text] = seen[-1]
    monkeypatch.setattr(distributed, "all_reduce", largest)
    assert Ranks(0, 2).agree("the same") == (others == "the same")
