#!/usr/bin/env python3
"""Records what real Sentinels say: see README.md. Usage: record.py [scenario ...]"""
import ctypes, os, shutil, signal, socket, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
EVENTS = """+switch-master +promoted-slave +selected-slave +failover-state-send-slaveof-noone
+failover-state-reconf-slaves +failover-end +failover-end-for-timeout +try-failover +elected-leader +new-epoch
+config-update-from -failover-abort-no-good-slave -failover-abort-not-elected -failover-abort-slave-timeout
-failover-abort-master-is-back +failover-state-select-slave +failover-state-wait-promotion +slave +slave-reconf-done
+convert-to-slave +sdown -sdown +odown -odown +tilt -tilt +reboot +reset-master +monitor -monitor +sentinel""".split()
POLL = [["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"], ["SENTINEL", "MASTER", "mymaster"]]


def command(words):
    words = [w.encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Node:
    """A redis-server or redis-sentinel on a port of its own, stopped with the System."""

    def __init__(self, system, name, port, program, lines):
        self.port, self.dir = port, os.path.join(system.dir, name)
        os.mkdir(self.dir)
        conf = os.path.join(self.dir, "node.conf")
        with open(conf, "w") as f:
            f.write("\n".join([f"port {port}", "bind 127.0.0.1", f"dir {self.dir}", *lines]) + "\n")
        self.process = subprocess.Popen([program, conf], stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)

    def ask(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as s:
            s.sendall(command(words))
            time.sleep(0.05)
            return s.recv(1 << 20)

    def until(self, words, *signs, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                answer = self.ask(*words)
                if all(sign in answer for sign in signs):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"port {self.port}: {words} never answered {signs}")


class System:
    """Three Redis, three Sentinels (down-after 1 s, failover-timeout 5 s), the master named mymaster."""

    def __init__(self, redis_lines=(), sentinel_lines=()):
        self.dir = tempfile.mkdtemp(prefix="transcripts-")
        socks = [socket.socket() for _ in range(6)]
        for s in socks:
            s.bind(("127.0.0.1", 0))
        ports = [s.getsockname()[1] for s in socks]
        for s in socks:
            s.close()
        self.redis = [Node(self, f"redis-{i}", ports[i], "redis-server", [
            'save ""', "repl-diskless-sync-delay 0", *redis_lines,
            *([f"replicaof 127.0.0.1 {ports[0]}"] if i else [])]) for i in range(3)]
        for r in self.redis[1:]:
            r.until(["INFO", "replication"], b"master_link_status:up")
        self.sentinels = [Node(self, f"sentinel-{i}", ports[3 + i], "redis-sentinel", [
            f"sentinel monitor mymaster 127.0.0.1 {ports[0]} 2", "sentinel down-after-milliseconds mymaster 1000",
            "sentinel failover-timeout mymaster 5000", *sentinel_lines]) for i in range(3)]

    def settled(self):
        for s in self.sentinels:
            s.until(["SENTINEL", "MASTER", "mymaster"], b"num-slaves\r\n$1\r\n2", b"num-other-sentinels\r\n$1\r\n2")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.sentinels + self.redis:
            node.process.kill()
            node.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Recorder:
    """One connection; keeps the received bytes and, per request and per read, when it was."""

    def __init__(self, node, start):
        self.sock = socket.create_connection(("127.0.0.1", node.port))
        self.start, self.received, self.index, self.lock = start, b"", [], threading.Lock()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def note(self, text):
        with self.lock:
            self.index.append(f"{(time.monotonic() - self.start) * 1000:9.1f} {text}")

    def read(self):
        try:
            while data := self.sock.recv(65536):
                self.note(f"< {len(self.received)} {len(self.received) + len(data)}")
                self.received += data
        except OSError:
            pass

    def say(self, *commands):
        for words in commands:
            self.note("> " + " ".join(words))
        self.sock.sendall(b"".join(map(command, commands)))

    def save(self, folder, name):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.reader.join(2)
        os.makedirs(os.path.join(HERE, folder), exist_ok=True)
        with open(os.path.join(HERE, folder, name + ".resp"), "wb") as f:
            f.write(self.received)
        with open(os.path.join(HERE, folder, name + ".index"), "w") as f:
            f.write("\n".join(self.index) + "\n")


def watch(system, folder, what, seconds):
    """The conversation of the module with every Sentinel, polls once a second, around `what()`."""
    start = time.monotonic()
    watches = [Recorder(s, start) for s in system.sentinels]
    for w in watches:
        w.say(["HELLO", "3"], *POLL)
        time.sleep(0.1)
        w.say(["CLIENT", "SETNAME", "envoy-redis-sentinel"], ["SENTINEL", "MYID"], ["SUBSCRIBE", *EVENTS],
              ["SENTINEL", "SENTINELS", "mymaster"], ["SENTINEL", "REPLICAS", "mymaster"], *POLL)
    time.sleep(0.7)
    for w in watches:
        w.note("! " + what.__doc__)
    what()
    for _ in range(seconds):
        for w in watches:
            w.say(*POLL)
        time.sleep(1)
    for i, w in enumerate(watches):
        w.save(folder, f"sentinel-{i}")
    with open(os.path.join(HERE, folder, "nodes"), "w") as f:
        f.write("".join(f"redis {r.port}\n" for r in system.redis))
        f.write("".join(f"sentinel {s.port}\n" for s in system.sentinels))


def planned_failover():
    with System().settled() as s:
        def what():
            "SENTINEL FAILOVER mymaster at sentinel-0"
            s.sentinels[0].ask("SENTINEL", "FAILOVER", "mymaster")
        watch(s, "planned-failover", what, 8)


def killed_master():
    with System().settled() as s:
        def what():
            "SIGKILL to the master"
            s.redis[0].process.kill()
        watch(s, "killed-master", what, 10)


def hung_master():
    with System().settled() as s:
        def what():
            "SIGSTOP to the master"
            s.redis[0].process.send_signal(signal.SIGSTOP)
        watch(s, "hung-master", what, 10)


def aborted_no_good_slave():
    with System(["replica-priority 0"]).settled() as s:
        time.sleep(11)  # A Sentinel learns a replica's priority from INFO, every 10 s.
        def what():
            "SIGKILL to the master while every replica has priority 0"
            s.redis[0].process.kill()
        watch(s, "aborted-no-good-slave", what, 10)


def monitored_again():
    with System().settled() as s:
        s.sentinels[0].ask("SENTINEL", "FAILOVER", "mymaster")
        for n in s.sentinels:
            n.until(["SENTINEL", "MASTER", "mymaster"], b"config-epoch\r\n$1\r\n1")
        time.sleep(8)
        address = s.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster").split(b"\r\n")[4].decode()
        def what():
            "SENTINEL RESET, then REMOVE and MONITOR at every Sentinel: config-epoch 0 again"
            for n in s.sentinels:
                n.ask("SENTINEL", "RESET", "mymaster")
                time.sleep(0.5)
                n.ask("SENTINEL", "REMOVE", "mymaster")
                time.sleep(0.5)
                n.ask("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", address, "2")
        watch(s, "monitored-again", what, 5)


def single_answers():
    """One file per answer of interest, RESP2 and RESP3, allowed and refused."""
    def ask(node, name, *commands):
        r = Recorder(node, time.monotonic())
        r.say(*commands)
        time.sleep(0.3)
        r.save("answers", name)
    sentinel = [["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"], ["SENTINEL", "MASTER", "mymaster"],
                ["SENTINEL", "SENTINELS", "mymaster"], ["SENTINEL", "REPLICAS", "mymaster"], ["SENTINEL", "MYID"]]
    unknown = [["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "nobody"], ["SENTINEL", "MASTER", "nobody"],
               ["SENTINEL", "SENTINELS", "nobody"], ["SENTINEL", "REPLICAS", "nobody"]]
    hello = [["HELLO", "3"]]
    with System().settled() as s:
        ask(s.sentinels[0], "known-resp2", *sentinel)
        ask(s.sentinels[0], "known-resp3", *hello, *sentinel)
        ask(s.sentinels[0], "unknown-name-resp2", *unknown)
        ask(s.sentinels[0], "unknown-name-resp3", *hello, *unknown)
        ask(s.redis[0], "role-master-resp3", *hello, ["ROLE"])
        ask(s.redis[1], "role-replica-resp3", *hello, ["ROLE"])
        ask(s.redis[0], "role-master-resp2", ["ROLE"])
        ask(s.redis[1], "role-replica-resp2", ["ROLE"])
        s.redis[0].ask("CONFIG", "SET", "requirepass", "secret")
        ask(s.redis[0], "role-noauth", *hello, ["ROLE"])
    with System(sentinel_lines=["requirepass secret"]) as s:
        s.sentinels[0].until(["PING"], b"-NOAUTH")
        ask(s.sentinels[0], "noauth", *hello, *sentinel[:1], ["SUBSCRIBE", "+switch-master"])
        ask(s.sentinels[0], "wrongpass", ["HELLO", "3", "AUTH", "default", "wrong"], ["AUTH", "wrong"])
        ask(s.sentinels[0], "auth", ["HELLO", "3", "AUTH", "default", "secret"], *sentinel[:1])
    with System(sentinel_lines=["user watcher on >secret resetchannels -@all +hello +auth +client|setname +sentinel"]) as s:
        s.sentinels[0].until(["PING"], b"PONG")
        ask(s.sentinels[0], "acl-without-subscribe", ["HELLO", "3", "AUTH", "watcher", "secret"], *sentinel[:1],
            ["SUBSCRIBE", "+switch-master"], ["CLIENT", "SETNAME", "x"])


SCENARIOS = [planned_failover, killed_master, hung_master, aborted_no_good_slave, monitored_again, single_answers]
if __name__ == "__main__":
    for scenario in SCENARIOS:
        if not sys.argv[1:] or scenario.__name__ in sys.argv[1:]:
            print(scenario.__name__, flush=True)
            scenario()
