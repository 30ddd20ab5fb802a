"""A process by itself is a leader without followers; what several do is tested with real ones (test_two_processes)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ivdjax.learning.devices import data_mesh, keep_pace, share, unshared
from ivdjax.learning.hosts import Votes, announce, from_leader, is_joined, leads, leave, process_count


def test_a_process_by_itself_leads_and_tells_nobody():
    assert leads() and process_count() == 1 and not is_joined()
    announce({"do": "end"})
    leave()
    tree = {"a": np.arange(3)}
    assert from_leader(tree) is tree


def test_a_process_by_itself_has_its_way_at_once():
    votes = Votes(data_mesh())
    assert [votes.stop(mine, jnp.int32(1)) for mine in (False, True, False)] == [False, True, False]


def test_what_lies_on_all_devices_is_read_from_the_first():
    mesh = data_mesh()
    shared = share({"a": np.arange(3, dtype=np.float32)}, mesh)
    keep_pace(shared, mesh)
    one = unshared(shared)
    assert len(one["a"].sharding.device_set) == 1
    np.testing.assert_array_equal(one["a"], np.arange(3))
