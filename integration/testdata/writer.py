"""The writer of the load tests on Python's sqlite3. See ledger_test.go for what
it writes and writer_test.go for the commands that it takes."""

import hashlib
import os
import random
import sqlite3
import struct
import sys
import time

SLOTS = 2000
TIMEOUT = 20  # seconds
# Every so many commits, churn makes a checkpoint, and gives it so many seconds.
CHECKPOINT_EVERY = 400
CHECKPOINT_TIMEOUT = 2
MASK = (1 << 64) - 1


def hash_row(id, k, v):
    head = b"%d|%s|" % (id, k.encode())
    return struct.unpack(">Q", hashlib.sha256(head + v).digest()[:8])[0]


class Writer:
    def __init__(self, path):
        self.db = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT)
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.random = random.Random(1)
        self.hashes = [0] * SLOTS
        self.n = self.rows = self.sum = 0

    def set(self, i, hash):
        self.rows += (hash != 0) - (self.hashes[i] != 0)
        self.sum = (self.sum + hash - self.hashes[i]) & MASK
        self.hashes[i] = hash

    def change(self):
        i = self.random.randrange(SLOTS)
        if self.hashes[i] and self.random.randrange(5) == 0:
            self.db.execute("DELETE FROM data WHERE id = ?", (i + 1,))
            self.set(i, 0)
            return
        k = "%016x" % self.random.getrandbits(64)
        size = 20 + self.random.randrange(200)
        if self.random.randrange(200) == 0:
            size = 5000 + self.random.randrange(15000)
        v = self.random.randbytes(size)
        if self.hashes[i]:
            self.db.execute("UPDATE data SET k = ?2, v = ?3 WHERE id = ?1", (i + 1, k, v))
        else:
            self.db.execute("INSERT INTO data(id, k, v) VALUES(?1, ?2, ?3)", (i + 1, k, v))
        self.set(i, hash_row(i + 1, k, v))

    def commit(self):
        self.db.execute("BEGIN IMMEDIATE")
        for _ in range(1 + self.random.randrange(3)):
            self.change()
        self.n += 1
        digest = "%d:%016x" % (self.rows, self.sum)
        self.db.execute("INSERT INTO oracle(n, digest) VALUES(?1, ?2)", (self.n, digest))
        self.db.execute("COMMIT")

    def do(self, command, arg):
        if command == "write":
            for _ in range(int(arg)):
                self.commit()
        elif command == "run":
            end = time.monotonic() + float(arg)
            while time.monotonic() < end:
                self.commit()
        elif command == "churn":
            return self.churn(float(arg))
        elif command == "checkpoint":
            busy = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy:
                raise SystemExit("the checkpoint was blocked")
        else:
            raise SystemExit("unknown command " + command)
        return self.n

    def churn(self, seconds):
        """Commits and checkpoints, and tells how many checkpoints gave up."""
        gave_up = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(self.random.randrange(2 * CHECKPOINT_EVERY)):
                self.commit()
            mode = self.random.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
            self.db.execute("PRAGMA busy_timeout=%d" % (1000 * CHECKPOINT_TIMEOUT))
            gave_up += self.db.execute("PRAGMA wal_checkpoint(%s)" % mode).fetchone()[0]
            self.db.execute("PRAGMA busy_timeout=%d" % (1000 * TIMEOUT))
        return gave_up

def main():
    writer = Writer(sys.argv[1])
    print(writer.n, flush=True)
    for line in sys.stdin:
        command, _, arg = line.strip().partition(" ")
        print(writer.do(command, arg), flush=True)
    writer.db.close()


main()
