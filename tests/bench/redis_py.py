"""Clients that ask Sentinel themselves (redis-py), in the race of `make bench`.

Arguments: the number of clients, the seconds between two writes, the seconds to wait for a reply, the script to write with, then
host:port of each Sentinel. Standard input ends them; then one line of JSON per client: what it saw, and when (seconds since 1970).
"""

import json
import sys
import threading
import time

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

clients, pause, timeout, script = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
sentinels = [(host, int(port)) for host, port in (place.rsplit(":", 1) for place in sys.argv[5:])]
ended = threading.Event()


def kind(error: redis.RedisError) -> str:
    if isinstance(error, MasterNotFoundError):
        return "refused"
    if isinstance(error, redis.TimeoutError):
        return "timeout"
    if isinstance(error, redis.ConnectionError):
        return "refused" if "connecting to" in str(error) else "closed"
    return "error"


def write(index: int, events: list) -> None:
    sentinel = Sentinel(sentinels, socket_timeout=0.5)
    master = sentinel.master_for("mymaster", socket_timeout=timeout, socket_connect_timeout=1)
    while not ended.is_set():
        try:
            value, node = master.eval(script, 1, f"race:redis-py:{index}")
        except redis.RedisError as error:
            events.append({"at": time.time(), "what": kind(error), "text": f"{type(error).__name__}: {error}"})
            time.sleep(0.02)
            continue
        events.append({"at": time.time(), "what": "ack", "value": value, "node": int(node)})
        time.sleep(pause)


seen = [[] for _ in range(clients)]
threads = [threading.Thread(target=write, args=pair, daemon=True) for pair in enumerate(seen)]
for thread in threads:
    thread.start()
sys.stdin.read()
ended.set()
for thread in threads:
    thread.join(timeout=1)
for events in seen:
    print(json.dumps(list(events)), flush=True)
