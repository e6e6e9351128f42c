"""CPU time and memory of processes with all their children."""

import threading

import psutil


def tree(pid):
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid):
    """User and system time of a process and its living children, and of those that ended."""
    total = 0.0
    for process in tree(pid):
        try:
            times = process.cpu_times()
            total += times.user + times.system
            if process.pid == pid:
                total += times.children_user + times.children_system
        except psutil.NoSuchProcess:
            pass
    return total


def rss_mib(pid):
    total = 0
    for process in tree(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass
    return total / 2**20


class Peak(threading.Thread):
    """The largest resident size of each of several processes, looked at twice a second."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.mib, self.over = pids, dict.fromkeys(pids, 0.0), threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.5):
            for pid in self.pids:
                self.mib[pid] = max(self.mib[pid], rss_mib(pid))

    def end(self):
        self.over.set()
        self.join()
        return self.mib
