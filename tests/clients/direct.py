"""Clients that know Sentinel themselves (redis-py), beside which the proxy is measured.

Arguments: the number of clients, the seconds between two writes, the seconds to wait for a reply, then host:port of each
Sentinel. Each client counts with INCR until standard input ends; then one line of JSON per client.
"""

import json
import sys
import threading
import time

import redis
from redis.sentinel import Sentinel

clients, pause, timeout = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
sentinels = [(host, int(port)) for host, port in (place.split(":") for place in sys.argv[4:])]
ended = threading.Event()


def count(index: int, seen: dict) -> None:
    sentinel = Sentinel(sentinels, socket_timeout=0.5)
    master = sentinel.master_for("mymaster", socket_timeout=timeout, socket_connect_timeout=1)
    last = time.monotonic()
    while not ended.is_set():
        try:
            value = master.incr(f"direct:{index}")
        except redis.RedisError as error:
            kind = type(error).__name__
            seen["errors"][kind] = seen["errors"].get(kind, 0) + 1
            time.sleep(0.02)
            continue
        now = time.monotonic()
        seen["silence"] = max(seen["silence"], now - last)
        seen["acks"] += 1
        # A counter may only grow: what it lacks was acknowledged and is gone.
        seen["lost"] += max(0, seen["counter"] - value + 1)
        seen["counter"] = value
        last = now
        time.sleep(pause)
    seen["silence"] = max(seen["silence"], time.monotonic() - last)


records = [{"acks": 0, "counter": 0, "lost": 0, "silence": 0.0, "errors": {}} for _ in range(clients)]
threads = [threading.Thread(target=count, args=pair, daemon=True) for pair in enumerate(records)]
for thread in threads:
    thread.start()
sys.stdin.read()
ended.set()
for thread in threads:
    thread.join(timeout=2 * timeout)
for record in records:
    print(json.dumps(record), flush=True)
