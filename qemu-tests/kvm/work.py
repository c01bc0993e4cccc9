"""A python program that uses files, processes, signals, threads and time, for comparison."""
import collections
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

print("python", sys.version_info.major, sys.platform)
lines = sys.stdin.read().splitlines()
print(len(lines), [line.upper() for line in lines])

# Files.
os.makedirs("tree/a/b")
for i in range(10):
    with open(f"tree/a/f{i}", "w") as out:
        out.write("data\n" * (i * 100))
os.symlink("a/f3", "tree/link")
os.rename("tree/a/f9", "tree/a/b/renamed")
for top, dirs, files in sorted(os.walk("tree")):
    print(top, sorted(dirs), sorted(files))
with open("tree/link", "rb") as source:
    print(hashlib.sha256(source.read()).hexdigest())
info = os.stat("tree/a/f4")
print(oct(info.st_mode), info.st_size, info.st_nlink)
try:
    open("/none")
except FileNotFoundError as error:
    print(error)

# Processes.
print(subprocess.run(["sort", "-r"], input=b"b\na\nc\n", capture_output=True).stdout)
print(subprocess.run(["sh", "-c", "exit 3"]).returncode)
first, second = os.pipe()
child = os.fork()
if child == 0:
    os.write(second, b"from the child")
    os._exit(5)
os.close(second)
print(os.read(first, 100), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

# Signals and time.
got = []
signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.05)
start = time.monotonic()
time.sleep(0.2)
print(got == [signal.SIGALRM], 0.15 < time.monotonic() - start < 5)

# Threads.
counts = collections.Counter()
lock = threading.Lock()


def work(name):
    for _ in range(200):
        with lock:
            counts[name] += 1


threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(counts.items()))

# Memory and text.
table = {i: str(i) * 10 for i in range(20000)}
print(sum(len(value) for value in table.values()))
words = re.findall(r"[a-z]+", open("/etc/passwd").read())
print(collections.Counter(words).most_common(3))
sys.exit(9)
