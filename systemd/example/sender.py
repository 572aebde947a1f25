#!/usr/bin/env python3
"""Counts, ten times a second: an ordinary Redis client that knows one address and nothing of Sentinel.

    REDIS_PASSWORD=... python3 sender.py
"""

import os
import time

import redis

client = redis.Redis(
    host="127.0.0.1",  # the Envoy of this server
    port=6379,
    password=os.environ["REDIS_PASSWORD"],
    socket_timeout=5,
)

while True:
    try:
        print("counted", client.incr("counter"), flush=True)
    except redis.RedisError as error:
        # Whether this one was counted is not known, as with any connection that ends. The client connects again by itself.
        print("no answer:", error, flush=True)
    time.sleep(0.1)
