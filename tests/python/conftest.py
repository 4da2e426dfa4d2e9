"""What several tests need: the program, and a picture."""

import base64
import json
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def built(kind, name, *only):
    """A program as `cargo test` built it: any other command would build it with other features, anew."""
    command = ["cargo", "test", "--workspace", *only, "--no-run", "--quiet", "--message-format=json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    artifacts = [it for it in messages if it.get("reason") == "compiler-artifact" and it["executable"]]
    named = [it for it in artifacts if it["target"]["kind"] == [kind] and it["target"]["name"] == name]
    return next(it["executable"] for it in named if not it["profile"]["test"])


@pytest.fixture(scope="session")
def isr():
    """The program."""
    return built("bin", "isr", "--test", "cli")


@pytest.fixture(scope="session")
def dump_checkpoint():
    """The example of isr-torch that writes a checkpoint and the numbers that it computes with it."""
    return built("example", "dump_checkpoint")


@pytest.fixture(scope="session")
def picture():
    """A data URL of 8x8 pixels, red above blue."""
    rows = b"".join(b"\0" + color * 8 for color in [b"\xff\0\0"] * 4 + [b"\0\0\xff"] * 4)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


class Server:
    """A server of the program, until it is stopped."""

    def __init__(self, command, cwd, env=None):
        self.process = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True)
        # The first line ends in the address, or there is none.
        words = self.process.stdout.readline().split()
        self.address = next(word for word in words if word.startswith("http://"))

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0


@pytest.fixture(scope="session")
def started():
    """Starts servers, and stops those that are left."""
    servers = []

    def start(*args, **kwargs):
        servers.append(Server(*args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()
