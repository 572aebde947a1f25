#!/usr/bin/env python3
"""Reads what sender.py counts, and says so if the count ever goes back.

    REDIS_PASSWORD=... python3 receiver.py
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

last = 0
while True:
    try:
        count = int(client.get("counter") or 0)
        print("read", count, flush=True)
        if count < last:
            print("WENT BACK from", last, flush=True)
        last = count
    except redis.RedisError as error:
        print("no answer:", error, flush=True)
    time.sleep(0.1)
