"""redis-py through the proxy: argument 1 is the port. Every step fails loudly."""

import os
import sys
import threading

import redis

PORT = int(sys.argv[1])
KEY = "redis-py:"


def commands(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for i in range(1000):
        pipe.set(f"{KEY}{i}", i).get(f"{KEY}{i}")
    assert pipe.execute()[1::2] == [str(i).encode() for i in range(1000)]

    with client.pipeline(transaction=True) as transaction:
        transaction.watch(KEY + "balance")
        transaction.multi()
        transaction.set(KEY + "balance", 1).incrby(KEY + "balance", 41)
        assert transaction.execute() == [True, 42]

    script = client.register_script("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
    assert script(keys=[KEY + "scripted"], args=["x"])[1:] == [b"x", 1]

    entry = client.xadd(KEY + "stream", {"field": "value"})
    client.xgroup_create(KEY + "stream", "group", id="0")
    (_, entries), = items(client.xreadgroup("group", "me", {KEY + "stream": ">"}))
    assert entry in repr(entries).encode() and client.xack(KEY + "stream", "group", entry) == 1


def items(reply):
    """A map in RESP3, a list of pairs in RESP2."""
    return list(reply.items()) if isinstance(reply, dict) else reply


def blocking(client: redis.Redis) -> None:
    push = threading.Timer(0.2, lambda: client.rpush(KEY + "list", "late"))
    push.start()
    assert client.blpop([KEY + "list"], timeout=10)[1] == b"late"
    assert client.blpop([KEY + "list"], timeout=0.1) is None


def publish(client: redis.Redis) -> None:
    with client.pubsub() as pubsub:
        pubsub.subscribe(KEY + "channel")
        assert pubsub.get_message(timeout=10)["type"] == "subscribe"
        assert client.publish(KEY + "channel", "hello") == 1
        assert pubsub.get_message(timeout=10)["data"] == b"hello"


def large(client: redis.Redis) -> None:
    value = os.urandom(1 << 20) * 64
    client.set(KEY + "large", value)
    assert client.get(KEY + "large") == value
    client.delete(KEY + "large")


for protocol in (2, 3):
    with redis.Redis(port=PORT, protocol=protocol, socket_timeout=30) as connection:
        connection.flushall()
        if protocol == 3:
            assert connection.execute_command("HELLO")[b"proto"] == 3
        for test in (commands, blocking, publish, large):
            test(connection)
print("ok")
