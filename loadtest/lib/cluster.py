"""Several routers of one cluster, on real servers of ZooKeeper."""

import json
import os
import random
import signal
import socket
import time
from pathlib import Path

import rig as rigs
from rig import Missing, note

JARS = ":".join(f"/usr/share/java/{it}.jar" for it in
                ("zookeeper", "slf4j-log4j12", "log4j-1.2", "servlet-api"))
SESSION_MS = 4000


class Zookeeper:
    """Three servers."""

    def __init__(self, rig):
        if not Path("/usr/share/java/zookeeper.jar").exists():
            raise Missing("install the Debian package zookeeper first (and a JRE)")
        ports = rigs.free_port(9)
        quorum = [f"server.{n + 1}=127.0.0.1:{ports[3 + n]}:{ports[6 + n]}" for n in range(3)]
        self.ports, self.servers = ports[:3], []
        for n in range(3):
            home = rig.dir / f"zk{n}"
            (home / "data").mkdir(parents=True)
            (home / "data" / "myid").write_text(str(n + 1))
            (home / "zoo.cfg").write_text("\n".join([
                "tickTime=500", "initLimit=20", "syncLimit=10", f"dataDir={home}/data",
                f"clientPort={ports[n]}", "clientPortAddress=127.0.0.1", "maxClientCnxns=0",
                "4lw.commands.whitelist=*", "admin.enableServer=false", *quorum]))
            command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
                       f"{home}:{JARS}", "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                       home / "zoo.cfg"]
            self.servers.append(rig.start(f"zookeeper {n}", command, ports[n], None,
                                          ready=lambda _: None))
        until("ZooKeeper serves", lambda: all(self.mode(n) for n in range(3)))

    def mode(self, n):
        said = b""
        try:
            with socket.create_connection(("127.0.0.1", self.ports[n]), 1) as it:
                it.sendall(b"srvr")
                while piece := it.recv(4096):
                    said += piece
        except OSError:
            pass
        return "leader" if b"Mode: leader" in said else b"Mode: follower" in said

    def kill_leader(self):
        leader = next(n for n in range(3) if self.mode(n) == "leader")
        os.kill(self.servers[leader].pid, signal.SIGKILL)

    def places(self):
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)


def until(what, look, seconds=40):
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise Missing(f"waited in vain until {what}")
        time.sleep(0.05)


def routers(rig, program, count, zookeeper, fronted):
    """So many routers that know each other."""
    secret = rig.dir / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    secret.chmod(0o600)
    more = ["--scheduler", "none", "--static", fronted, "--cores", "1-1",
            "--zookeeper", zookeeper.places(), "--zookeeper-session-ms", SESSION_MS,
            "--cluster-secret-file", secret]
    out = [rig.waiter(program, None, more, name=f"router {n}") for n in range(count)]
    until("the routers are the members", lambda: all(members(it) == count for it in out))
    time.sleep(1)
    return out


def members(router):
    page = json.loads(rigs.ask(router.port, "/state/cluster", host="localhost")[2])
    heard = all(it["silent-ms"] is not None for it in page["peers"] if it["member?"])
    return len(page["members"]) if heard else 0


def spread(ports, count, connect, request, collect):
    """One request after the other, each to a router drawn at random."""
    sent = []
    for _ in range(count):
        it = connect(random.choice(ports))
        sent.append((it, time.monotonic_ns()))
        it.send(request)
    seen = collect(sent)
    for it, _ in sent:
        it.close()
    return seen


def phases(zookeeper, all_routers, slots_used):
    """Name of a phase, what is done before it, and the ports that are asked. What is done returns
    after how many seconds all slots were in use again, where some were lost."""
    ports = [it.port for it in all_routers]

    def kill_router():
        note("a router is killed")
        os.kill(all_routers[-1].pid, signal.SIGKILL)
        killed = time.monotonic()
        until("the slots of the killed router are back", lambda: slots_used(ports[:-1]))
        return time.monotonic() - killed

    yield "calm", lambda: None, ports
    yield "the leader of ZooKeeper killed -9", zookeeper.kill_leader, ports
    if len(ports) > 1:
        yield "a router killed -9", kill_router, ports[:-1]
