// ioredis through the proxy: argument 1 is the port. Every step fails loudly.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const Redis = require("ioredis");

const port = Number(process.argv[2]);
const key = (name) => `ioredis:${name}`;
const connect = (options) => new Redis({ port, host: "127.0.0.1", maxRetriesPerRequest: 1, ...options });

async function commands(redis) {
  const pipeline = redis.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.set(key(i), i).get(key(i));
  const replies = await pipeline.exec();
  for (let i = 0; i < 1000; i++) assert.deepEqual(replies[2 * i + 1], [null, String(i)]);

  const results = await redis.multi().set(key("balance"), 1).incrby(key("balance"), 41).exec();
  assert.deepEqual(results, [[null, "OK"], [null, 42]]);

  redis.defineCommand("tally", { numberOfKeys: 1, lua: "return {ARGV[1], redis.call('INCR', KEYS[1])}" });
  assert.deepEqual(await redis.tally(key("scripted"), "x"), ["x", 1]);

  const id = await redis.xadd(key("stream"), "*", "field", "value");
  await redis.xgroup("CREATE", key("stream"), "group", "0");
  const read = await redis.xreadgroup("GROUP", "group", "me", "STREAMS", key("stream"), ">");
  assert.ok(JSON.stringify(read).includes(id));
  assert.equal(await redis.xack(key("stream"), "group", id), 1);
}

async function blocking(redis, other) {
  setTimeout(() => other.rpush(key("list"), "late"), 200);
  assert.deepEqual(await redis.blpop(key("list"), 10), [key("list"), "late"]);
  assert.equal(await redis.blpop(key("list"), 0.1), null);
}

async function publish(subscriber, other) {
  const message = new Promise((resolve) => subscriber.once("message", (_, text) => resolve(text)));
  await subscriber.subscribe(key("channel"));
  assert.equal(await other.publish(key("channel"), "hello"), 1);
  assert.equal(await message, "hello");
}

async function large(redis) {
  const value = Buffer.alloc(64 << 20, crypto.randomBytes(1 << 20));
  await redis.set(key("large"), value);
  assert.ok(value.equals(await redis.getBuffer(key("large"))));
  await redis.del(key("large"));
}

async function main() {
  for (const protocol of [2, 3]) {
    const [redis, other, subscriber] = [1, 2, 3].map(() => connect({ protocol }));
    assert.equal((await redis.call("HELLO"))[5], protocol);
    await redis.flushall();
    await commands(redis);
    await blocking(redis, other);
    await publish(subscriber, other);
    await large(redis);
    for (const connection of [redis, other, subscriber]) connection.disconnect();
  }
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
