"""Which errors of an exchange mean that another process is gone; tests/test_ranks.py has the exchanges themselves."""

from __future__ import annotations

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
