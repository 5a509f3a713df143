"""Ports: free ones are distinct and usable, taken ones are explained."""

import os
import socket

import pytest

from local import ports


def test_a_taken_port_is_named_with_its_holder_and_the_flag_that_changes_it():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ports.PortTakenError) as refused:
            ports.choose({"--api-port": port})
    message = str(refused.value)
    assert f"Port {port} is taken" in message
    assert f"process {os.getpid()}" in message
    assert "--api-port 0" in message


def test_a_port_taken_on_every_address_is_taken_on_the_loopback_too():
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        with pytest.raises(ports.PortTakenError):
            ports.choose({"--api-port": holder.getsockname()[1]})


def test_a_port_asked_for_twice_is_refused():
    port = ports.free()
    with pytest.raises(ports.PortTakenError):
        ports.choose({"--api-port": port, "--mail-port": port})


def test_zero_takes_a_free_port_for_each_flag():
    chosen = ports.choose({f"--{number}": 0 for number in range(20)})
    assert len(set(chosen.values())) == 20
    assert set(chosen.values()) <= set(ports.POOL)
    for port in chosen.values():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_a_free_port_that_was_named_is_kept():
    port = ports.free()
    assert ports.choose({"--api-port": port}) == {"--api-port": port}
